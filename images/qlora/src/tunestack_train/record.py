"""`run.json`: what a run was asked to do and by what it was done, so that it can be told from another and repeated.

It stands in the run's folder and, as a copy, in each checkpoint and beside the adapter.
"""

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tunestack_train.data.load import TrainingData
from tunestack_train.errors import SettingsError
from tunestack_train.presets import DEFAULTS
from tunestack_train.resolve import Resolved
from tunestack_train.settings import SETTINGS, RunConfig
from tunestack_train.status import now

RUN_FILE: Final = "run.json"
_SCHEMA: Final = 1
_PACKAGES: Final = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "tokenizers")


def write_record(folder: Path, resolved: Resolved, data: TrainingData, device: str) -> None:
    """Writes the run's record to `folder`, whole or not at all. `device` is its name for people."""
    content = {
        "schema": _SCHEMA,
        "created_at": now(),
        "config": resolved.config.as_dict(),
        "sources": dict(resolved.sources),
        "data": data.summary(),
        "device": device,
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in _PACKAGES},
        },
        "git_commit": os.environ.get("TUNESTACK_GIT_COMMIT"),
        "image_digest": os.environ.get("TUNESTACK_IMAGE_DIGEST"),
    }
    aside = folder / f".{RUN_FILE}.partial"
    aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    aside.replace(folder / RUN_FILE)


def require_same(folder: Path, config: RunConfig, data: TrainingData) -> None:
    """Raises SettingsError when the run in `folder` was begun with other data, or settings of another result."""
    earlier = _read(folder)
    if earlier is None:
        return
    before = earlier.get("config")
    data_before = earlier.get("data")
    if not isinstance(before, dict) or not isinstance(data_before, dict):
        return
    # A setting that came with a later version is at what that version takes for how it was.
    changes = [
        f"  {key} was {before.get(key, DEFAULTS.get(key))!r}, now {value!r}"
        for key, value in config.as_dict().items()
        if SETTINGS[key].changes_result and before.get(key, DEFAULTS.get(key)) != value
    ]
    if data_before.get("sha256") != data.sha256:
        was, is_now = data_before.get("sha256"), data.sha256
        changes.append(
            f"  the data was {data_before.get('source')} (sha256 {str(was)[:12]}), now {data.source} ({is_now[:12]})"
        )
    if changes:
        raise SettingsError(
            "\n".join([f"the run {config.name} was begun with other settings:", *changes]),
            f"give this run another --name; or go back to the settings above; or delete the run {config.name} "
            "(npm run train-clean -- --checkpoints)",
        )


def _read(folder: Path) -> Mapping[str, object] | None:
    try:
        content = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return content if isinstance(content, dict) else None
