"""The experiment runner in a notebook session: started, watched, and started again where it or Drive fell over."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestack_train.colab.drive import Drive
from tunestack_train.colab.session import CommandFailedError, start, stop

if TYPE_CHECKING:
    import subprocess

_LOOK_SECONDS: Final = 15.0
_AGAIN_SECONDS: Final = 10.0
_SHORT_SECONDS: Final = 60.0
_MOST_SHORT_LIVES: Final = 3
# Settings, a broken file and access: the same again would end the same way.
_LASTING: Final = frozenset({2, 3, 7})


class Daemon:
    """A runner with these arguments of `python -m tunestack_train.experiments run`."""

    def __init__(self, arguments: Sequence[str], drive: Drive) -> None:
        self._command = [sys.executable, "-m", "tunestack_train.experiments", "run", *arguments]
        self._drive = drive
        self._child: subprocess.Popen[str] | None = None
        self._began = 0.0

    def start(self) -> None:
        """Starts the runner, if it does not run already; what it says goes to the cell."""
        if self._child is None or self._child.poll() is not None:
            self._began = time.monotonic()
            self._child = start(self._command, Path("/"), {})

    def watch(self) -> None:
        """Keeps the runner and Drive alive until the cell is interrupted, or the runner has done what there was.

        Raises CommandFailedError where starting it again is of no use.
        """
        short_lives = 0
        looked = time.monotonic()
        try:
            while (code := self._poll()) != 0:
                time.sleep(0.5)
                if time.monotonic() - looked >= _LOOK_SECONDS:
                    self._drive.mend()
                    looked = time.monotonic()
                if code is None:
                    continue
                short = time.monotonic() - self._began < _SHORT_SECONDS
                short_lives = short_lives + 1 if short else 0
                if code in _LASTING or short_lives >= _MOST_SHORT_LIVES:
                    raise CommandFailedError(f"the runner ended with exit code {code}", "read what it said last")
                sys.stdout.write(f"the runner ended with exit code {code}: starting it again\n")
                self._drive.mend()
                time.sleep(_AGAIN_SECONDS)
                self.start()
        except KeyboardInterrupt:
            sys.stdout.write("stopping: what runs is given back to the queue\n")
            self.stop()
        self._drive.flush()

    def stop(self) -> None:
        """Ends the runner, which gives back what it has."""
        if self._child is not None:
            stop(self._child)

    def _poll(self) -> int | None:
        if self._child is None:
            self.start()
        return None if self._child is None else self._child.poll()
