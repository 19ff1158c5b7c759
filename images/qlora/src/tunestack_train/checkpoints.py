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
from tunestack_train.manifest import checkpoints, flush_directory, make_folder, problems, write_manifest

_PARTIAL: Final = ".partial"
_REPLACED: Final = ".replaced"
_REMOVING: Final = ".removing"
# How the libraries that write weights report these when they hide the errno; torch knows one text for all of them.
_SAID: Final = {
    errno.ENOSPC: ("No space left on device", "os error 28", "unexpected pos"),
    errno.EDQUOT: ("Disk quota exceeded", "os error 122"),
    errno.EFBIG: ("File too large", "os error 27"),
    errno.EROFS: ("Read-only file system", "os error 30"),
    errno.EIO: ("Input/output error", "os error 5)"),
}
_NOTHING_LEFT: Final = 1 << 20


@dataclass(frozen=True)
class ResumePoint:
    """Where a run goes on: `checkpoint` is None at the start. `notes` names what was found damaged, for the person."""

    checkpoint: Path | None
    notes: tuple[str, ...]


def write_folder(destination: Path, fill: Callable[[Path], None]) -> Path:
    """Has `fill` write into a folder aside, then puts it at `destination`, whole, in place of what was there.

    Raises DiskFullError when the disk takes no more; what was at `destination` is then still there, untouched.
    """
    parent = destination.parent
    partial = parent / f".{destination.name}{_PARTIAL}"
    replaced = parent / f".{destination.name}{_REPLACED}"
    try:
        make_folder(parent)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        fill(partial)
        write_manifest(partial)
        if destination.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            destination.rename(replaced)
        partial.rename(destination)
        flush_directory(parent)
    except BaseException as error:
        refused = disk_error(error, parent)
        shutil.rmtree(partial, ignore_errors=True)
        if replaced.exists() and not destination.exists():
            replaced.rename(destination)
        if refused is not None:
            raise disk_full(destination, refused) from error
        raise
    shutil.rmtree(replaced, ignore_errors=True)
    return destination


def disk_error(error: BaseException, folder: Path) -> int | None:
    """The errno with which the disk refused what was written below `folder`; None when `error` has another cause."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _SAID:
            return cause.errno
        for number, texts in _SAID.items():
            if any(text in str(cause) for text in texts):
                return number
    # torch.save may say nothing that is known.
    nothing_left = isinstance(error, RuntimeError) and shutil.disk_usage(folder).free < _NOTHING_LEFT
    return errno.ENOSPC if nothing_left else None


def disk_full(path: Path, refused: int = errno.ENOSPC) -> DiskFullError:
    """The error for a write to `path` that the disk refused with the errno `refused`."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    usage = shutil.disk_usage(existing)
    go_on = "then start the run again: it goes on from its newest complete checkpoint"
    if refused == errno.EROFS:
        return DiskFullError(
            f"the disk became read-only: {path} could not be written",
            f"see the kernel's log (`dmesg`) for what is wrong with it, mount it for writing, {go_on}",
        )
    if refused == errno.EIO:
        return DiskFullError(
            f"the disk is failing: {path} could not be written (input/output error)",
            f"see the kernel's log (`dmesg`), move the checkpoints to a disk that works, {go_on}",
        )
    if refused == errno.EFBIG:
        return DiskFullError(
            f"the disk takes no file of this size: {path} could not be written",
            f"raise the limit of file sizes (`ulimit -f`) or use another file system, {go_on}",
        )
    return DiskFullError(
        f"the disk is full: {path} could not be written "
        f"({usage.free / 1e6:.0f} MB of {usage.total / 1e9:.1f} GB are free)",
        f"make room (train-clean lists what can go; on Docker also `docker system df`), {go_on}",
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
    """Removes all but the `limit` newest complete checkpoints and the best; nothing unless the newest is complete.

    Damaged ones neither count nor go: they are for the next start to set aside and name.
    """
    newest_first = checkpoints(run_folder)
    if not newest_first or problems(newest_first[0]):
        return []
    complete = [newest_first[0], *(path for path in newest_first[1:] if not problems(path))]
    best = best_of(complete)
    surplus = [path for path in complete[limit:] if best is None or path != best.checkpoint]
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
    flush_directory(folder.parent)
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
