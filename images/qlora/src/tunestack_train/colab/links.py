"""Folders of Drive in the place where a repository's code looks for them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tunestack_train.errors import SettingsError


def link(clone: Path, drive: Path, names: Sequence[str]) -> list[str]:
    """Makes `clone/NAME` a link to `drive/NAME` for each name; returns a line for each.

    What the repository has there goes to Drive where Drive lacks it, so that the code still finds it, and what is on
    Drive is never replaced. Raises SettingsError for a name that leads out of the clone.
    """
    return [_link(clone, drive, name) for name in names]


def _link(clone: Path, drive: Path, name: str) -> str:
    inside = clone / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not name.strip("./"):
        raise SettingsError(f"{name!r} is no folder within the clone", "name it as the code does, such as checkpoints")
    target = drive / name
    target.mkdir(parents=True, exist_ok=True)
    if inside.is_symlink():
        if inside.readlink() == target:
            return f"{name} → {target}"
        inside.unlink()
    elif inside.is_dir():
        _copy_missing(inside, target)
        shutil.rmtree(inside)
    elif inside.exists():
        raise SettingsError(f"{inside} is a file and no folder", "link the folder that it is in")
    inside.parent.mkdir(parents=True, exist_ok=True)
    inside.symlink_to(target)
    return f"{name} → {target}"


def _copy_missing(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        there = target / path.relative_to(source)
        if path.is_dir():
            there.mkdir(parents=True, exist_ok=True)
        elif not there.exists():
            shutil.copy2(path, there)
