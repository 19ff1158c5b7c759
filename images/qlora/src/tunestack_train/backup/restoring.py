"""Brings a snapshot back, or proves that it could be brought back."""

import os
import uuid
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tunestack_train.backup.aside import aside, remove
from tunestack_train.backup.contents import escape, folders_with_manifest
from tunestack_train.backup.errors import NothingThereError, RepositoryError
from tunestack_train.backup.repository import open_repository, require_room
from tunestack_train.backup.restic import Restic
from tunestack_train.backup.settings import PARTS, Part
from tunestack_train.backup.snapshot import SnapshotInfo, list_snapshots, newest_manifest, stored_files
from tunestack_train.backup.status import JsonObject, StatusFile, iso_now
from tunestack_train.errors import SettingsError, TunestackError
from tunestack_train.manifest import MANIFEST, problems

DRILL_PREFIX = ".drill-"
_RESTORE_PREFIX = ".restore-"
_REPLACED_PREFIX = ".replaced-"
# File systems keep times to the nanosecond, snapshots to the microsecond.
_CLOCK_SECONDS = 0.001
# What the services write into the logs volume all the time. The present ones stay when a run's logs are put back.
_SERVICES_OWN = ("gpu_metrics.jsonl", "gpu-monitor")


@dataclass(frozen=True, slots=True)
class Request:
    """What to restore. `to` is None for the volumes themselves; no `parts` are all; `run` limits it to one run."""

    snapshot: str
    to: Path | None
    parts: Collection[Part]
    run: str | None
    force: bool


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put where, in the order in which it was."""

    snapshot_id: str
    restored: tuple[Path, ...]
    kept: tuple[Path, ...]
    verified_manifests: int
    size: int

    def as_json(self) -> JsonObject:
        return {
            "snapshot_id": self.snapshot_id,
            "restored": [str(path) for path in self.restored],
            "kept": [str(path) for path in self.kept],
            "verified_manifests": self.verified_manifests,
            "bytes": self.size,
        }


@dataclass(frozen=True, slots=True)
class _Entry:
    """One run, folder or file to restore: where it stood, and where it will."""

    source: Path
    destination: Path


def find_snapshot(restic: Restic, wanted: str) -> SnapshotInfo:
    """The newest snapshot for `latest`, else the one whose id begins so. Raises NothingThereError."""
    snapshots = list_snapshots(restic)
    if not snapshots:
        raise NothingThereError(f"{restic.settings.shown_repository} holds no snapshot", "take a first one: `now`")
    if wanted == "latest":
        return snapshots[-1]
    for snapshot in snapshots:
        if wanted and (snapshot.snapshot_id.startswith(wanted) or wanted.startswith(snapshot.snapshot_id)):
            return snapshot
    raise NothingThereError(f"there is no snapshot {wanted!r}", "`list` shows the snapshots that there are")


def restore(restic: Restic, request: Request) -> Restored:
    """Restores beside the destination, verifies, renames into place; after a failure the destination is untouched."""
    snapshot = find_snapshot(restic, request.snapshot)
    files = stored_files(restic, snapshot.snapshot_id)
    entries, kept = _select(request, snapshot, files, restic)
    wanted = {path: size for path, size in files.items() if _within(path, entries)}
    size = sum(wanted.values())
    with ExitStack() as stack:
        staged: list[tuple[Path, _Entry]] = []
        verified = 0
        for parent in sorted({entry.destination.parent for entry in entries}):
            own = [entry for entry in entries if entry.destination.parent == parent]
            require_room(parent, sum(size for path, size in wanted.items() if _within(path, own)), "the restored files")
            stage = stack.enter_context(aside(parent, _RESTORE_PREFIX))
            includes = (argument for entry in own for argument in ("--include", escape(entry.source)))
            restic.run("restore", snapshot.snapshot_id, "--target", str(stage), "--verify", *includes)
            verified += verify_folder(stage, snapshot.snapshot_id)
            _require_all(stage, {path: size for path, size in wanted.items() if _within(path, own)})
            staged += [(stage / entry.source.relative_to("/"), entry) for entry in own]
        os.sync()
        for source, entry in staged:
            put_into_place(source, entry.destination)
    return Restored(snapshot.snapshot_id, tuple(entry.destination for entry in entries), tuple(kept), verified, size)


def restore_newer(restic: Restic, run: str) -> Restored | None:
    """Puts the newest snapshot's checkpoints and logs of `run` in the place of older ones or none.

    None where no snapshot holds this run, and where what is here is as new: manifests are compared by the time at which
    they were written, which a restore keeps.
    """
    try:
        open_repository(restic, create=False)
    except NothingThereError:
        return None
    holding = [one for one in list_snapshots(restic) if run in one.runs and "checkpoints" in one.roots]
    if not holding:
        return None
    snapshot = holding[-1]
    saved = newest_manifest(restic, snapshot.snapshot_id, snapshot.roots["checkpoints"] / run)
    here = restic.settings.folders["checkpoints"] / run
    present = max((path.stat().st_mtime for path in here.rglob(MANIFEST)), default=0.0)
    if saved is None or saved <= present + _CLOCK_SECONDS:
        return None
    parts: tuple[Part, ...] = ("checkpoints", "logs") if "logs" in snapshot.roots else ("checkpoints",)
    return restore(restic, Request(snapshot.snapshot_id, None, parts, run, force=True))


def drill(restic: Restic, status: StatusFile) -> JsonObject:
    """Restores the newest snapshot aside, verifies every manifest and removes it. The status file keeps the result."""
    backup = restic.settings.backup
    snapshot = find_snapshot(restic, "latest")
    try:
        files = stored_files(restic, snapshot.snapshot_id)
        require_room(backup, sum(files.values()), "a drill")
        with aside(backup, DRILL_PREFIX) as stage:
            restic.run("restore", snapshot.snapshot_id, "--target", str(stage), "--verify")
            verified = verify_folder(stage, snapshot.snapshot_id)
            _require_all(stage, files)
    except TunestackError as error:
        if error.exit_code != _STOPPED:
            status.update(last_drill=_drill_result(snapshot, 0, error.message))
        raise
    result = _drill_result(snapshot, verified, None)
    status.update(last_drill=result)
    return {**result, "bytes": sum(files.values())}


_STOPPED = 130


def verify_folder(folder: Path, snapshot_id: str) -> int:
    """Verifies every manifest below `folder`, and counts them. Raises RepositoryError for the first bad one."""
    found = folders_with_manifest(folder)
    for path in found:
        wrong = problems(path)
        if wrong:
            saved = f"/{path.relative_to(folder)}"
            raise RepositoryError(
                f"snapshot {snapshot_id} does not give {saved} back as it was: {'; '.join(wrong[:3])}",
                "restore an older snapshot (`list` shows them), and check the disk of the repository (`verify`)",
            )
    return len(found)


def _drill_result(snapshot: SnapshotInfo, verified: int, error: str | None) -> JsonObject:
    return {
        "at": iso_now(),
        "ok": error is None,
        "snapshot_id": snapshot.snapshot_id,
        "verified_manifests": verified,
        "error": error,
    }


def _select(
    request: Request, snapshot: SnapshotInfo, files: Collection[str], restic: Restic
) -> tuple[list[_Entry], list[Path]]:
    """The entries to restore, and those of the destination that stay as they are."""
    entries: list[_Entry] = []
    kept: list[Path] = []
    missing = [part for part in request.parts if part not in snapshot.roots]
    if missing:
        raise NothingThereError(
            f"snapshot {snapshot.snapshot_id} holds no {' and no '.join(missing)}", "choose another --include"
        )
    for part in request.parts or [part for part in PARTS if part in snapshot.roots]:
        root = snapshot.roots[part]
        parent = restic.settings.folders[part] if request.to is None else request.to.absolute() / part
        for name in _names_below(root, files):
            if request.run is not None and name != request.run and not name.startswith(f"{request.run}."):
                continue
            destination = parent / name
            if part == "logs" and name.startswith(_SERVICES_OWN) and destination.exists() and not request.force:
                kept.append(destination)
            else:
                entries.append(_Entry(root / name, destination))
    if not entries:
        what = f"nothing of the run {request.run!r}" if request.run else "nothing to restore"
        raise NothingThereError(
            f"snapshot {snapshot.snapshot_id} holds {what}", "`list` shows what each snapshot holds"
        )
    existing = [entry.destination for entry in entries if entry.destination.exists()]
    if existing and not request.force:
        raise SettingsError(
            f"{', '.join(str(path) for path in existing[:5])} exist{'s' if len(existing) == 1 else ''} already",
            "choose another folder with --to, or replace what is there with --force",
        )
    return entries, kept


def _names_below(root: Path, files: Collection[str]) -> Iterator[str]:
    prefix = f"{root}/"
    return iter(sorted({path.removeprefix(prefix).split("/", 1)[0] for path in files if path.startswith(prefix)}))


def _within(path: str, entries: Collection[_Entry]) -> bool:
    return any(path == str(entry.source) or path.startswith(f"{entry.source}/") for entry in entries)


def _require_all(stage: Path, files: dict[str, int]) -> None:
    for path, size in files.items():
        restored = stage / path.removeprefix("/")
        if not restored.is_file() or restored.stat().st_size != size:
            raise RepositoryError(
                f"{path} was not restored as it was", "restore an older snapshot, and check the repository (`verify`)"
            )


def put_into_place(source: Path, destination: Path) -> None:
    if not destination.exists():
        source.rename(destination)
        return
    replaced = destination.with_name(f"{_REPLACED_PREFIX}{uuid.uuid4().hex[:8]}-{destination.name}")
    destination.rename(replaced)
    source.rename(destination)
    if replaced.is_dir() and not replaced.is_symlink():
        remove(replaced)
    else:
        replaced.unlink()
