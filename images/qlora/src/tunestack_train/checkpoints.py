"""Folders that exist whole or not at all: checkpoints, the final adapter, the model that the rehearsal makes.

A folder is written aside under a name that starts with a dot, flushed, hashed into its manifest and then renamed into
place. Whatever kills the writer leaves either the old state or the new one, and a leftover that is known by its name.
"""

import errno
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunestack_train.errors import DiskFullError, SettingsError
from tunestack_train.evaluation import best_of
from tunestack_train.manifest import checkpoints, flush_directory, problems, write_manifest

_PARTIAL: Final = ".partial"
_REPLACED: Final = ".replaced"
_REMOVING: Final = ".removing"
# How the libraries that write weights report a full disk when they hide the errno.
_DISK_FULL_SAID: Final = ("No space left on device", "os error 28", "Disk quota exceeded", "unexpected pos")
_NOTHING_LEFT: Final = 1 << 20


@dataclass(frozen=True)
class ResumePoint:
    """Where a run goes on: `checkpoint` is None at the start. `notes` names what was found damaged, for the person."""

    checkpoint: Path | None
    notes: tuple[str, ...]


def write_folder(destination: Path, fill: Callable[[Path], None]) -> Path:
    """Has `fill` write into a folder aside, then puts it at `destination`, whole, in place of what was there.

    Raises DiskFullError when the disk is full; what was at `destination` is then still there, untouched.
    """
    parent = destination.parent
    partial = parent / f".{destination.name}{_PARTIAL}"
    replaced = parent / f".{destination.name}{_REPLACED}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        fill(partial)
        write_manifest(partial)
        if destination.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            destination.rename(replaced)
        partial.rename(destination)
        flush_directory(parent)
    except Exception as error:
        full = is_disk_full(error, parent)
        shutil.rmtree(partial, ignore_errors=True)
        if full:
            raise disk_full(destination) from error
        raise
    shutil.rmtree(replaced, ignore_errors=True)
    return destination


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Whether `error`, raised while writing below `folder`, comes from a full disk or quota."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(text in str(cause) for text in _DISK_FULL_SAID):
            return True
    # torch.save says only that a position in the file is unexpected.
    return isinstance(error, RuntimeError) and shutil.disk_usage(folder).free < _NOTHING_LEFT


def disk_full(path: Path) -> DiskFullError:
    """The error for a write to `path` that the disk had no room for."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    usage = shutil.disk_usage(existing)
    return DiskFullError(
        f"the disk is full: {path} could not be written "
        f"({usage.free / 1e6:.0f} MB of {usage.total / 1e9:.1f} GB are free)",
        "make room (train-clean lists what can go; on Docker also `docker system df`), then start the run again: "
        "it goes on from its newest complete checkpoint",
    )


def find_resume_point(run_folder: Path) -> ResumePoint:
    """The newest checkpoint that is complete. Newer ones that are damaged are set aside, and leftovers are removed."""
    remove_leftovers(run_folder)
    notes: list[str] = []
    for checkpoint in checkpoints(run_folder):
        found = problems(checkpoint)
        if not found:
            return ResumePoint(checkpoint, tuple(notes))
        aside = _set_aside(checkpoint)
        notes.append(f"{checkpoint.name} is damaged ({'; '.join(found)}): set aside as {aside.name}")
    return ResumePoint(None, tuple(notes))


def remove_old(run_folder: Path, limit: int) -> list[Path]:
    """Removes all but the `limit` newest checkpoints and the best, and nothing unless the newest of all is complete."""
    newest_first = checkpoints(run_folder)
    if len(newest_first) <= limit or problems(newest_first[0]):
        return []
    best = best_of(newest_first)
    surplus = [path for path in newest_first[limit:] if best is None or path != best.checkpoint]
    for checkpoint in surplus:
        _remove(checkpoint)
    return surplus


def require_complete(folder: Path) -> None:
    """Raises SettingsError unless the manifest of `folder` holds."""
    found = problems(folder)
    if found:
        raise SettingsError(
            f"{folder} is damaged: {'; '.join(found)}",
            f"restore it from a backup, or remove {folder} and start the run again: it is made anew",
        )


def _remove(folder: Path) -> None:
    # Renamed first: a removal that is cut short must not leave something that looks like a damaged checkpoint.
    doomed = folder.with_name(f".{folder.name}{_REMOVING}")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _set_aside(checkpoint: Path) -> Path:
    candidates = (checkpoint.with_name(f"{checkpoint.name}.damaged{suffix}") for suffix in _suffixes())
    aside = next(path for path in candidates if not path.exists())
    checkpoint.rename(aside)
    flush_directory(checkpoint.parent)
    return aside


def _suffixes() -> Iterator[str]:
    yield ""
    number = 2
    while True:
        yield f"-{number}"
        number += 1


def remove_leftovers(run_folder: Path) -> None:
    """Puts `run_folder` in order after a writer that was killed: what it replaced comes back, what it began goes."""
    for replaced in run_folder.glob(f".*{_REPLACED}"):
        # Killed between the two renames: the old folder is the only one there is.
        original = run_folder / replaced.name.removeprefix(".").removesuffix(_REPLACED)
        if original.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            replaced.rename(original)
    for ending in (_PARTIAL, _REMOVING):
        for leftover in run_folder.glob(f".*{ending}"):
            shutil.rmtree(leftover, ignore_errors=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
