"""Appends whole records to a file, or nothing: what a full disk cuts off is taken back."""

import os
from pathlib import Path


def append_whole(path: Path, data: bytes) -> None:
    """Appends `data` to `path`, making file and folder. Raises OSError, and then the file is as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        written = 0
        try:
            # A disk that fills up first takes a part, and says so only at the next write.
            while written < len(data):
                written += os.write(descriptor, data[written:])
        except OSError:
            if written:
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """The file's size in bytes, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
