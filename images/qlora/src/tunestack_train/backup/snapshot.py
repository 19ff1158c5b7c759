"""Takes a snapshot whose checkpoints are whole, checks the repository and lets old snapshots go."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath

from tunestack_train.backup.contents import Contents, Excluded, Survey, sizes_in
from tunestack_train.backup.errors import IncompleteError
from tunestack_train.backup.locks import Use
from tunestack_train.backup.repository import clear_dead_locks, open_repository
from tunestack_train.backup.restic import Output, Restic
from tunestack_train.backup.status import JsonObject, StatusFile, iso_now
from tunestack_train.errors import TunestackError
from tunestack_train.manifest import MANIFEST

# The same for all containers of a stack: restic compares a snapshot with the last one of the same host.
HOST = "tunestack"
_ROOT_TAG = "root:"
_RUN_TAG = "run:"
_MAINTENANCE_WAIT_SECONDS = 600.0
_SOME_FILES_UNREADABLE = 3
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot that has just been taken. `size` is what it holds, `added` what the repository grew by, in bytes."""

    snapshot_id: str
    size: int
    added: int
    complete: int
    excluded: tuple[Excluded, ...]
    warnings: tuple[str, ...]
    superseded: tuple[str, ...]

    def as_json(self) -> JsonObject:
        return {
            "snapshot_id": self.snapshot_id,
            "bytes": self.size,
            "added_bytes": self.added,
            "checkpoints": self.complete,
            "excluded": [{"path": str(one.path), "reason": one.reason} for one in self.excluded[:_SHOWN]],
            "warnings": list(self.warnings[:_SHOWN]),
        }


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot in the repository. `roots` tells where each part stood when it was taken."""

    snapshot_id: str
    time: str
    roots: Mapping[str, Path]
    runs: tuple[str, ...]

    def as_json(self) -> JsonObject:
        return {
            "id": self.snapshot_id,
            "time": self.time,
            "runs": list(self.runs),
            "parts": {part: str(path) for part, path in self.roots.items()},
        }


def back_up(restic: Restic, use: Use, survey: Survey, status: StatusFile, *, forget: bool, check: bool = True) -> Taken:
    """The whole turn: open or make the repository, snapshot, check, and forget if asked. The status file follows.

    Without `check`, for a machine that is about to go, the status does not count the snapshot as good; the next one's
    check is its check too.
    """
    try:
        open_repository(restic, create=True)
        clear_dead_locks(restic, use)
        status.update(state="snapshotting", repository=restic.settings.shown_repository)
        taken = take(restic, survey)
        if not check:
            return taken
        status.update(state="checking")
        with use.alone(_MAINTENANCE_WAIT_SECONDS):
            _check(restic, status)
            # Only now: a snapshot counts as good when the repository that holds it has been checked.
            found = taken.as_json()
            status.update(last_success=iso_now(), last_snapshot_id=found.pop("snapshot_id"), error=None, **found)
            if taken.superseded:
                restic.run("forget", *taken.superseded)
            if forget and restic.settings.keep:
                _forget_old(restic)
    finally:
        status.update(state="idle")
    return taken


def take(restic: Restic, survey: Survey) -> Taken:
    """Takes a snapshot. If a checkpoint changed while it was read it tries again, at last without that checkpoint.

    Raises IncompleteError if even that does not help. `superseded` are earlier attempts.
    """
    left_out: tuple[Excluded, ...] = ()
    superseded: list[str] = []
    for attempt in (1, 2, 3):
        contents = survey.look()
        contents = replace(contents, excluded=(*contents.excluded, *left_out))
        output = restic.run(*_backup_command(contents), accept=(0, _SOME_FILES_UNREADABLE))
        summary = _summary(output)
        taken = Taken(
            str(summary["snapshot_id"]),
            int(summary["total_bytes_processed"]),
            int(summary["data_added"]),
            len(contents.complete) - len(left_out),
            contents.excluded,
            tuple(_unreadable(output)),
            tuple(superseded),
        )
        torn = torn_folders(restic, taken.snapshot_id, contents)
        if not torn and (not taken.warnings or attempt > 1):
            return taken
        superseded.append(taken.snapshot_id)
        if attempt > 1:
            left_out += tuple(Excluded(path, "it changed while it was read") for path in torn)
    restic.run("forget", *superseded)
    raise IncompleteError(
        "no whole snapshot could be taken: " + ", ".join(str(path) for path in torn) + " changed each time it was read",
        "try again when nothing writes there; a checkpoint should be written aside and renamed",
    )


def torn_folders(restic: Restic, snapshot_id: str, contents: Contents) -> list[Path]:
    """Folders that the snapshot holds in part only: they were removed or replaced while restic read them."""
    stored = stored_files(restic, snapshot_id)
    by_folder: dict[Path, dict[str, int]] = {}
    manifests = {Path(path).parent for path in stored if PurePosixPath(path).name == MANIFEST}
    for path, size in stored.items():
        for folder in (parent for parent in Path(path).parents if parent in contents.complete or parent in manifests):
            by_folder.setdefault(folder, {})[str(PurePosixPath(path).relative_to(folder.as_posix()))] = size
    torn: list[Path] = []
    for folder, files in by_folder.items():
        expected = contents.complete.get(folder)
        if expected is None:
            # A checkpoint that was finished after the survey; its own manifest is in the snapshot.
            expected = sizes_in(restic.run("dump", snapshot_id, str(folder / MANIFEST)).stdout.encode())
        if any(files.get(name) != size for name, size in expected.items()):
            torn.append(folder)
    return torn


def stored_files(restic: Restic, snapshot_id: str, *folders: str) -> dict[str, int]:
    """The files of a snapshot, or of some of its folders, with their sizes in bytes."""
    lines = restic.run("ls", snapshot_id, "--json", "--recursive", *folders).stdout.splitlines()
    nodes = (json.loads(line) for line in lines)
    return {str(node["path"]): int(node.get("size", 0)) for node in nodes if node.get("type") == "file"}


def newest_manifest(restic: Restic, snapshot_id: str, folder: Path) -> float | None:
    """When the newest manifest below `folder` was written, in seconds since 1970; None where there is none."""
    lines = restic.run("ls", snapshot_id, "--json", "--recursive", str(folder)).stdout.splitlines()
    nodes = (json.loads(line) for line in lines)
    times = [
        datetime.fromisoformat(_microseconds(node["mtime"])).timestamp()
        for node in nodes
        if node.get("type") == "file" and PurePosixPath(node["path"]).name == MANIFEST
    ]
    return max(times, default=None)


def _microseconds(time: str) -> str:
    """Go writes up to nine decimals, of which Python reads six."""
    return re.sub(r"(\.\d{6})\d+", r"\1", time)


def list_snapshots(restic: Restic) -> list[SnapshotInfo]:
    """The snapshots that training-backup took, oldest first."""
    listed = restic.json("snapshots", "--host", HOST)
    if not isinstance(listed, list):
        return []
    snapshots = (_snapshot_info(entry) for entry in listed)
    return sorted(snapshots, key=lambda snapshot: snapshot.time)


def _snapshot_info(entry: Mapping[str, object]) -> SnapshotInfo:
    tags = entry.get("tags")
    texts = [str(tag) for tag in tags] if isinstance(tags, list) else []
    roots = (text.removeprefix(_ROOT_TAG).partition("=") for text in texts if text.startswith(_ROOT_TAG))
    runs = tuple(text.removeprefix(_RUN_TAG) for text in texts if text.startswith(_RUN_TAG))
    time = str(entry["time"])
    return SnapshotInfo(str(entry["short_id"]), time, {part: Path(path) for part, _, path in roots}, runs)


def _backup_command(contents: Contents) -> list[str]:
    tags = [f"{_ROOT_TAG}{part}={path}" for part, path in contents.roots.items()]
    tags += [f"{_RUN_TAG}{run.replace(',', ';')}" for run in contents.runs]
    return [
        *("backup", "--json", "--host", HOST),
        *(argument for tag in tags for argument in ("--tag", tag)),
        *(argument for pattern in contents.exclude_patterns() for argument in ("--exclude", pattern)),
        "--",
        *(str(path) for path in contents.roots.values()),
    ]


def _summary(output: Output) -> Mapping[str, str | int]:
    for line in reversed(output.stdout.splitlines()):
        message = json.loads(line)
        if isinstance(message, dict) and message.get("message_type") == "summary":
            return message
    raise AssertionError("restic backup --json printed no summary")


def _unreadable(output: Output) -> Iterator[str]:
    """What restic could not read: newer versions tell the reason as a text, older ones as an error number."""
    if output.code != _SOME_FILES_UNREADABLE:
        return
    for line in (*output.stdout.splitlines(), *output.stderr.splitlines()):
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("message_type") != "error" or message.get("during") == "scan":
            continue
        detail = message.get("error") or {}
        number = detail.get("Err")
        reason = detail.get("message") or (os.strerror(number) if isinstance(number, int) else "reason unknown")
        yield f"{message.get('item')} could not be read: {reason}"


def _check(restic: Restic, status: StatusFile) -> None:
    try:
        restic.run("check")
    except TunestackError as error:
        status.update(last_check={"at": iso_now(), "ok": False, "error": error.message})
        raise
    status.update(last_check={"at": iso_now(), "ok": True, "error": None})


def _forget_old(restic: Restic) -> None:
    keep = (f"--keep-{kind}={number}" for kind, number in restic.settings.keep.items())
    # By host alone: a volume that appears later must not begin a second series with a retention of its own.
    restic.run("forget", "--prune", "--host", HOST, "--group-by", "host", *keep)
