"""Folders that are filled beside their place, then renamed from and thrown away; those of killed programs are found."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def aside(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent`, removed with all that is still in it at the end."""
    parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        remove(folder)
        os.close(descriptor)


def remove_leftovers(parent: Path, prefix: str) -> list[Path]:
    """Removes the folders that a killed program left; one that is still in use is known by its lock."""
    removed: list[Path] = []
    for folder in parent.glob(f"{prefix}*"):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            remove(folder)
            removed.append(folder)
        finally:
            os.close(descriptor)
    return removed


def remove(folder: Path) -> None:
    """Removes a folder, also where folders in it were saved without the right to write."""
    for parent, names, _ in os.walk(folder):
        for path in (Path(parent) / name for name in names):
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
