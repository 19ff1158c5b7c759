"""Takes a run that another stack sent: verified, and put into place whole or not at all."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunestack_train.backup.contents import folders_with_manifest
from tunestack_train.backup.errors import NothingThereError, RepositoryError
from tunestack_train.backup.restoring import put_into_place
from tunestack_train.backup.settings import Part
from tunestack_train.backup.status import JsonObject
from tunestack_train.errors import SettingsError
from tunestack_train.manifest import checkpoint_step, newest_complete, problems


@dataclass(frozen=True, slots=True)
class Taken:
    """What was put where; `step` is that of the newest complete checkpoint, None without one."""

    taken: tuple[Path, ...]
    step: int | None
    verified_manifests: int

    def as_json(self) -> JsonObject:
        return {
            "taken": [str(path) for path in self.taken],
            "step": self.step,
            "verified_manifests": self.verified_manifests,
        }


def take(folders: Mapping[Part, Path], staged: str, run: str, *, force: bool) -> Taken:
    """Puts `run` from `FOLDER/staged/PART` of each volume into it, in the place of an older state of the same run.

    Raises NothingThereError where nothing was sent, RepositoryError where a file is not as its manifest says, and
    SettingsError where the run here has gone further and `force` is not given. Nothing is changed then.
    """
    entries = {
        source: folder / source.name
        for part, folder in folders.items()
        for source in sorted((folder / staged / part).glob("*"))
        if source.name == run or source.name.startswith(f"{run}.")
    }
    if not entries:
        raise NothingThereError(f"nothing of the run {run!r} was sent", "move it again")
    verified = sum(_verified(source) for source in entries)
    step = _newest_step(folders["checkpoints"] / staged / "checkpoints" / run)
    here = _newest_step(folders["checkpoints"] / run)
    if here is not None and (step is None or step < here) and not force:
        coming = "without a checkpoint" if step is None else f"at step {step}"
        raise SettingsError(
            f"the run {run!r} has gone further here: it is at step {here}, and what comes is {coming}",
            "move it the other way, or replace what is here with --force",
        )
    os.sync()
    for source, destination in entries.items():
        put_into_place(source, destination)
    return Taken(tuple(entries.values()), step, verified)


def _verified(folder: Path) -> int:
    found = folders_with_manifest(folder) if folder.is_dir() else []
    for path in found:
        wrong = problems(path)
        if wrong:
            shown = path.relative_to(folder.parent)
            raise RepositoryError(f"{shown} did not arrive as it was sent: {'; '.join(wrong[:3])}", "move it again")
    return len(found)


def _newest_step(run_folder: Path) -> int | None:
    newest = newest_complete(run_folder) if run_folder.is_dir() else None
    return None if newest is None else checkpoint_step(newest)
