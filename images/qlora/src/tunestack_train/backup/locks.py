"""Who may do what at a time, by flock on files in the backup volume.

A lock is held as long as a process has its file open. restic inherits the open files, so a lock outlives this program
for as long as a restic that it started is still at work.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunestack_train.backup.errors import BusyError, StoppedError

Stopped = Callable[[], bool]
_POLL_SECONDS = 0.2


class Use:
    """A use of the repository: shared with other readers, or with one writer. See `using`."""

    def __init__(self, folder: Path, descriptors: tuple[int, ...], stopped: Stopped) -> None:
        self.folder = folder
        self.descriptors = descriptors
        self._users = descriptors[-1]
        self._stopped = stopped

    @contextmanager
    def alone(self, wait: float) -> Iterator[None]:
        """While it lasts nobody else of this volume uses the repository. Raises BusyError after `wait` seconds."""
        try:
            # Where it cannot be had, the kernel takes away the shared lock too: it is asked for again in any case.
            _lock(self._users, fcntl.LOCK_EX, wait, self._stopped, "a restore or drill is under way on this volume")
            yield
        finally:
            fcntl.flock(self._users, fcntl.LOCK_SH)


@contextmanager
def using(folder: Path, stopped: Stopped, *, writer: bool, wait: float) -> Iterator[Use]:
    """Uses the repository. Of the writers there is one at a time. Raises BusyError after `wait` seconds."""
    folder.mkdir(exist_ok=True)
    descriptors: list[int] = []
    try:
        if writer:
            descriptors.append(os.open(folder / "writer", os.O_RDWR | os.O_CREAT, 0o600))
            _lock(descriptors[0], fcntl.LOCK_EX, wait, stopped, "another backup is under way on this volume")
        descriptors.append(os.open(folder / "users", os.O_RDWR | os.O_CREAT, 0o600))
        _lock(descriptors[-1], fcntl.LOCK_SH, wait, stopped, "the repository is being checked or cleaned up")
        yield Use(folder, tuple(descriptors), stopped)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _lock(descriptor: int, kind: int, wait: float, stopped: Stopped, reason: str) -> None:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if stopped():
                raise StoppedError("stopped while waiting for the repository", "start it again") from None
            if time.monotonic() >= deadline:
                raise BusyError(reason, "try again when it has ended") from None
            time.sleep(_POLL_SECONDS)
        else:
            return
