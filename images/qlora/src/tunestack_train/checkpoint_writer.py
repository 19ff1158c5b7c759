"""Checkpoints written while the training goes on: one at a time, each whole or not there, no failure unheard."""

import threading
from collections.abc import Callable
from pathlib import Path

from tunestack_train.checkpoints import remove_old, write_folder

Fill = Callable[[Path], None]
"""Writes the files of a checkpoint into the folder it is given."""


class CheckpointWriter:
    """Writes `checkpoint-STEP` folders below a run's and removes the oldest beyond the limit.

    `saved` is called, by the thread that writes, once a checkpoint is durable. What goes wrong is kept, for `failed`
    to tell and `wait` to raise.
    """

    def __init__(
        self, run_folder: Path, save_total_limit: int, saved: Callable[[Path], None], *, background: bool
    ) -> None:
        self._run_folder = run_folder
        self._save_total_limit = save_total_limit
        self._saved = saved
        self._background = background
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._newest: int | None = None

    def write(self, step: int, fill: Fill) -> None:
        """Begins the checkpoint of `step`, after the one that is being written; without a background, writes it.

        Does nothing when an earlier one failed, or when that step has been written.
        """
        self.finish()
        if self.failed or step == self._newest:
            return
        self._newest = step
        if not self._background:
            self._write(step, fill)
            return
        # No daemon: a process that ends waits for the checkpoint that it has begun.
        self._thread = threading.Thread(target=self._write, args=(step, fill), name=f"checkpoint-{step}")
        self._thread.start()

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def finish(self) -> None:
        """Returns once nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wait(self) -> None:
        """Returns once nothing is being written; raises what went wrong, once."""
        self.finish()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _write(self, step: int, fill: Fill) -> None:
        try:
            checkpoint = write_folder(self._run_folder / f"checkpoint-{step}", fill)
            self._saved(checkpoint)
            remove_old(self._run_folder, self._save_total_limit)
        except BaseException as error:  # the training thread raises it
            self._failure = error
