"""The repository itself: made once, opened with its password, and freed of locks whose holders are dead."""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tunestack_train.backup.errors import BusyError, NothingThereError
from tunestack_train.backup.locks import Use
from tunestack_train.backup.restic import Restic, damaged
from tunestack_train.errors import DiskFullError
from tunestack_train.units import show_size

_CONTACT_SECONDS = 60.0
# restic renews the lock of a command that runs every five minutes.
_DEAD_AFTER_SECONDS = 6 * 60
_KNOWN_HOSTS = 50


def open_repository(restic: Restic, *, create: bool, try_password: bool = False) -> bool:
    """Makes sure that the repository is there; True if it was made just now. A remote one is always tried.

    Raises NothingThereError where there is none and `create` is not set, RepositoryError where one has lost its head.
    """
    settings = restic.settings
    if settings.local:
        folder = Path(settings.repository)
        if not (folder / "config").exists():
            if any(_files(folder / name) for name in ("data", "index", "snapshots")):
                raise damaged(settings, "its file `config` is missing")
            if not create:
                raise NothingThereError(f"there is no repository at {folder} yet", "take a first snapshot: `now`")
            # An init that was cut short may have left a key, which would not fit the config that comes now.
            for key in _files(folder / "keys"):
                key.unlink()
            _initialize(restic)
            return True
        if not try_password:
            return False  # the next command tells soon enough
    try:
        restic.run("cat", "config", "--no-lock", limit=_CONTACT_SECONDS)
    except NothingThereError:
        if not create or settings.local:
            raise
        _initialize(restic)
        return True
    return False


def clear_dead_locks(restic: Restic, use: Use) -> None:
    """Removes the locks of commands that were killed.

    restic judges by process number and host name, and otherwise waits half an hour. A container that was made anew has
    another host name; on a volume of our own, which nobody else uses just now, the locks of its predecessors are dead.
    """
    settings = restic.settings
    earlier = _remember_host(use.folder / "hosts")
    try:
        with use.alone(wait=0):
            locks = Path(settings.repository) / "locks"
            if settings.local and not _files(locks):
                return
            restic.run("unlock", limit=_CONTACT_SECONDS)
            for lock in _files(locks) if settings.local else ():
                content = json.loads(restic.run("cat", "lock", lock.name, "--no-lock").stdout)
                age = time.time() - datetime.fromisoformat(content["time"]).timestamp()
                if age > _DEAD_AFTER_SECONDS or content["hostname"] in earlier:
                    lock.unlink(missing_ok=True)
    except BusyError:
        return  # a restore is under way, and its lock is alive


def require_room(folder: Path, needed: int, purpose: str) -> None:
    """Raises DiskFullError where `needed` bytes and a little more are not free at `folder`."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed * 1.02 + (16 << 20):
        raise DiskFullError(
            f"the disk is too full for {purpose}: {folder} needs {show_size(needed)} and has {show_size(free)} free",
            "make room there, or give the volume a larger disk",
        )


def _initialize(restic: Restic) -> None:
    restic.run("init", limit=_CONTACT_SECONDS)


def _files(folder: Path) -> list[Path]:
    return sorted(_walk(folder)) if folder.is_dir() else []


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _remember_host(file: Path) -> set[str]:
    """The names that this volume's containers had before."""
    known = file.read_text().split() if file.exists() else []
    own = socket.gethostname()
    if own not in known:
        file.write_text("\n".join([*known, own][-_KNOWN_HOSTS:]) + "\n")
    return set(known) - {own}
