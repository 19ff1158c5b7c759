"""Work that is kept by the content that it was made from, so that it is done once.

An entry is a folder that is whole or not there, verified whenever it is used; one that is damaged is made anew. Entries
that were not used for longest go first when the cache outgrows its limit.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tunestack_train.checkpoints import write_folder
from tunestack_train.manifest import problems

LIMIT: Final = 20 << 30
"""Bytes that the entries may take together."""

_LOCKS: Final = 64
_REMOVING: Final = ".removing"
_LEFT_ALONE: Final = 24 * 3600
"""Seconds after which a folder that was being written or removed is nobody's any more."""


def default_folder() -> Path:
    """Beside Hugging Face's own cache, in the volume of models."""
    return Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser() / "tunestack"


class ContentCache:
    """A folder of entries. Where it cannot be written, entries live in a temporary folder of this process alone."""

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._wanted = folder
        self._limit = limit
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def key(self, kind: str, *content: object) -> str:
        """The name of an entry: its kind, and a hash of what it is made from and of the code that makes it."""
        text = json.dumps([_code_version(), *content], sort_keys=True)
        return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"

    def get(self, key: str, fill: Callable[[Path], None]) -> Path:
        """The folder of an entry, which `fill` writes when it is not there yet or damaged.

        Raises DiskFullError when there is no room for it, and whatever `fill` raises.
        """
        folder = self._folder()
        entry = folder / key
        with _locked(folder / f".lock-{int(key[-4:], 16) % _LOCKS:02}"):
            if not entry.is_dir() or problems(entry):
                write_folder(entry, fill)
                self._remove_old(folder, keep=entry)
            os.utime(entry)
        return entry

    def _folder(self) -> Path:
        if self._temporary is not None:
            return Path(self._temporary.name)
        try:
            self._wanted.mkdir(parents=True, exist_ok=True)
            if os.access(self._wanted, os.W_OK | os.X_OK):
                return self._wanted
        except OSError:
            pass
        self._temporary = tempfile.TemporaryDirectory(prefix="tunestack-cache-")
        return Path(self._temporary.name)

    def _remove_old(self, folder: Path, keep: Path) -> None:
        """Removes what was used longest ago until the rest is within the limit, and what a killed process left."""
        for leftover in folder.glob(".*"):
            if leftover.is_dir() and _last_use(leftover) < time.time() - _LEFT_ALONE:
                shutil.rmtree(leftover, ignore_errors=True)
        entries = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        sizes = {entry: _size(entry) for entry in entries}
        for entry in sorted(entries, key=_last_use):
            if sum(sizes.values()) <= self._limit:
                return
            if entry == keep:
                continue
            # Whoever has the entry open keeps its content; renamed first, so that nobody finds half of it.
            doomed = folder / f".{entry.name}{_REMOVING}"
            with contextlib.suppress(OSError):
                entry.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
            del sizes[entry]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the others wait, and then find what it made."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _size(entry: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in entry.iterdir())
    return 0


def _last_use(entry: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return entry.stat().st_mtime
    return 0.0


@cache
def _code_version() -> str:
    """Changes with the code that reads, renders and tokenises, ours and the libraries'."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    versions = [importlib.metadata.version(name) for name in ("tokenizers", "transformers", "pyarrow", "jinja2")]
    return f"{digest.hexdigest()} {versions}"
