"""`run.json`: what a run was asked to do and by what it was done, so that it can be told from another and repeated.

It stands in the run's folder and, as a copy, in each checkpoint and beside the adapter.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunestack_train.data.load import TrainingData
from tunestack_train.errors import SettingsError
from tunestack_train.manifest import replace_file
from tunestack_train.presets import DEFAULTS, REHEARSAL_MODEL
from tunestack_train.resolve import Resolved
from tunestack_train.settings import SETTINGS, RunConfig
from tunestack_train.status import now

RUN_FILE: Final = "run.json"
_SCHEMA: Final = 1
_PACKAGES: Final = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "tokenizers")
_SNAPSHOTS: Final = "snapshots"
"""Folder of the hub's cache in which each commit of a model has one of its name."""
_HASHED_WHOLE: Final = 1 << 20


@dataclass(frozen=True)
class Origin:
    """What a run is made of beside its settings: `template` is the text of the chat template, `device` a name.

    `processes` counts those that train together: each reads another share of the data.
    """

    data: TrainingData
    model_folder: Path
    template: str | None
    device: str
    processes: int = 1


@dataclass(frozen=True)
class Record:
    """A run as its folder remembers it. What an older version did not note is None."""

    config: Mapping[str, object]
    data: Mapping[str, object]
    surroundings: Mapping[str, str | None]
    """Versions of what it ran on, by name."""
    model_commit: str | None
    model_sha256: str | None
    template: str | None
    processes: int

    @property
    def data_sha256(self) -> str:
        return str(self.data.get("sha256"))


def write_record(folder: Path, resolved: Resolved, origin: Origin) -> None:
    """Writes the run's record to `folder`, whole or not at all."""
    content = {
        "schema": _SCHEMA,
        "created_at": now(),
        "config": resolved.config.as_dict(),
        "sources": dict(resolved.sources),
        "data": origin.data.summary(),
        "model": {"commit": model_commit(origin.model_folder), "sha256": model_sha256(origin.model_folder)},
        "chat_template": origin.template,
        "device": origin.device,
        "processes": origin.processes,
        "versions": _versions(),
        "git_commit": os.environ.get("TUNESTACK_GIT_COMMIT"),
        "image_digest": os.environ.get("TUNESTACK_IMAGE_DIGEST"),
        "halvings": halvings(folder),
    }
    _write(folder, content)


def halvings(folder: Path) -> list[dict[str, int]]:
    """When memory ran out: optimiser step, and from then on the sequences in a pass and the passes in a step."""
    try:
        noted = json.loads((folder / RUN_FILE).read_text(encoding="utf-8")).get("halvings")
    except (OSError, ValueError, AttributeError):
        return []
    return noted if isinstance(noted, list) else []


def add_halving(folder: Path, halving: Mapping[str, int]) -> None:
    """Notes in the run's record that its passes have become smaller."""
    content = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    _write(folder, content | {"halvings": [*halvings(folder), dict(halving)]})


def _write(folder: Path, content: Mapping[str, object]) -> None:
    replace_file(folder / RUN_FILE, json.dumps(content, indent=1) + "\n")


def read_record(folder: Path) -> Record:
    """The record in a run's folder, a checkpoint's or an adapter's. Raises SettingsError when there is none."""
    path = folder / RUN_FILE
    if not folder.is_dir():
        raise SettingsError(
            f"there is no folder {folder}", "give the folder of a run, of a checkpoint or of an adapter"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        model = content.get("model") or {}
        return Record(
            config=dict(content["config"]),
            data=dict(content["data"]),
            surroundings=_surroundings(content),
            model_commit=model.get("commit"),
            model_sha256=model.get("sha256"),
            template=content.get("chat_template"),
            processes=int(content.get("processes", 1)),
        )
    except FileNotFoundError:
        remedy = "give the folder of a run, of a checkpoint or of an adapter; each holds one from the first step on"
        raise SettingsError(f"{folder} holds no {RUN_FILE}", remedy) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path} cannot be read: {type(error).__name__}: {error}",
            f"take the {RUN_FILE} of a checkpoint or of the adapter of the same run, or restore it from a backup",
        ) from error


def differences(record: Record, device: str) -> list[str]:
    """What is not as it was when the record was written, one line each; empty: the same software on the same device."""
    here = _surroundings(
        {
            "versions": _versions(),
            "git_commit": os.environ.get("TUNESTACK_GIT_COMMIT"),
            "image_digest": os.environ.get("TUNESTACK_IMAGE_DIGEST"),
            "device": device,
        }
    )
    return [
        f"{name} was {was or 'not noted'}, now {here.get(name) or 'not known'}"
        for name, was in record.surroundings.items()
        if was != here.get(name)
    ]


def model_commit(folder: Path) -> str | None:
    """The commit of a model in the hub's cache; None for any other folder."""
    return folder.name if folder.parent.name == _SNAPSHOTS else None


def model_sha256(folder: Path) -> str:
    """A hash that tells models apart: names and sizes of all files, small ones whole, of large ones the beginning.

    Weights begin with a table of their tensors. Hashing all of them would take longer than loading them.
    """
    total = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        with file.open("rb") as stream:
            start = hashlib.sha256(stream.read(_HASHED_WHOLE)).hexdigest()
        total.update(f"{file.name}\0{file.stat().st_size}\0{start}\n".encode())
    return total.hexdigest()


def require_same(folder: Path, config: RunConfig, data: TrainingData) -> None:
    """Raises SettingsError when the run in `folder` was begun with other data, or settings of another result."""
    earlier = _earlier(folder)
    if earlier is None:
        return
    # A setting that came with a later version is at what that version takes for how it was.
    changes = [
        f"  {key} was {earlier.config.get(key, DEFAULTS.get(key))!r}, now {value!r}"
        for key, value in config.as_dict().items()
        if SETTINGS[key].changes_result and earlier.config.get(key, DEFAULTS.get(key)) != value
    ]
    if earlier.data_sha256 != data.sha256:
        was, is_now = earlier.data_sha256, data.sha256
        changes.append(
            f"  the data was {earlier.data.get('source')} (sha256 {was[:12]}), now {data.source} ({is_now[:12]})"
        )
    _refuse(config.name, changes)


def require_same_origin(folder: Path, config: RunConfig, origin: Origin) -> None:
    """Raises SettingsError when the run was begun by fewer or more processes, or with another model or template."""
    earlier = _earlier(folder)
    if earlier is None:
        return
    changes: list[str] = []
    if earlier.processes != origin.processes:
        changes.append(f"  it was trained by {earlier.processes} processes, now {origin.processes}")
    if earlier.template not in (None, origin.template):
        changes.append(f"  the chat template ({config.chat_template}) is another text than it was")
    known = earlier.model_sha256 is not None and config.model != REHEARSAL_MODEL
    if known and earlier.model_sha256 != model_sha256(origin.model_folder):
        commits = f" (commit {earlier.model_commit}, now {model_commit(origin.model_folder)})"
        changes.append(f"  the model {config.model} is another than it was{commits if earlier.model_commit else ''}")
    _refuse(config.name, changes)


def _refuse(name: str, changes: list[str]) -> None:
    if changes:
        raise SettingsError(
            "\n".join([f"the run {name} was begun with other settings:", *changes]),
            f"give this run another --name; or go back to the settings above; or delete the run {name} "
            "(npm run train-clean -- --checkpoints)",
        )


def _earlier(folder: Path) -> Record | None:
    """The record of a run that may not have begun; a torn one says nothing, and is written again."""
    try:
        return read_record(folder)
    except SettingsError:
        return None


def _versions() -> dict[str, str]:
    packages = {package: importlib.metadata.version(package) for package in _PACKAGES}
    return {"python": platform.python_version(), **packages}


def _surroundings(content: Mapping[str, object]) -> dict[str, str | None]:
    versions = content.get("versions")
    named = {
        "git commit": content.get("git_commit"),
        "image": content.get("image_digest"),
        "device": content.get("device"),
        **(versions if isinstance(versions, dict) else {}),
    }
    return {name: None if value is None else str(value) for name, value in named.items()}
