"""What is exported: a checkpoint of a run, the settings that it was trained with, and its base model."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunestack_train.errors import SettingsError
from tunestack_train.evaluation import best_of
from tunestack_train.manifest import checkpoint_step, checkpoints, complete_checkpoints, problems
from tunestack_train.model import locate_model
from tunestack_train.presets import DEFAULTS, REHEARSAL_MODEL
from tunestack_train.record import RUN_FILE
from tunestack_train.secret_files import read_secret
from tunestack_train.settings import RunConfig, config_from

ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
_ADAPTER_FILES: Final = (
    ADAPTER_WEIGHTS,
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class Source:
    """A complete checkpoint. `why` says, for people, what it was chosen by; `adapter_sha256` is its identity."""

    checkpoint: Path
    step: int
    why: str
    config: RunConfig
    adapter_sha256: str


def choose_source(run_folder: Path, wanted: str) -> Source:
    """The checkpoint that `wanted` names: a step, `best` (the last where nothing was evaluated) or `last`.

    Raises SettingsError when there is none, or when it is damaged.
    """
    complete = complete_checkpoints(run_folder)
    if not complete:
        raise SettingsError(
            f"the run {run_folder.name} has no complete checkpoint in {run_folder}", _other_runs(run_folder.parent)
        )
    last = complete[0]
    if wanted == "last":
        return _source(last, "the last")
    if wanted == "best":
        best = best_of(complete)
        if best is None:
            return _source(last, "the last; this run has no evaluation that could tell the best")
        return _source(best.checkpoint, f"the best: evaluation loss {best.eval_loss:.4f}")
    chosen = next((path for path in complete if str(checkpoint_step(path)) == wanted), None)
    if chosen is None:
        there = ", ".join(str(checkpoint_step(path)) for path in reversed(complete))
        raise SettingsError(
            f"--checkpoint = {wanted}: the run {run_folder.name} has no complete checkpoint of that name",
            f"give best, last, or one of these steps: {there}",
        )
    return _source(chosen, "as named")


def base_folder(source: Source, run_folder: Path, named: Path | None, say: Callable[[str], None]) -> Path:
    """The folder of the model that the adapter was trained on; `named` takes the place of where it was in training."""
    config = source.config
    if named is None and config.model == REHEARSAL_MODEL:
        folder = run_folder / "model"
        found = problems(folder)
        if found:
            raise SettingsError(
                f"the base model of the run, {folder}, is damaged: {'; '.join(found)}",
                "restore the run from a backup (npm run restore -- list), or train it anew under another name",
            )
        return folder
    model = config.model if named is None else str(named)
    return locate_model(model, config.model_revision, read_secret("hf-token", "HF_TOKEN"), say)


def copy_adapter(source: Source, folder: Path) -> None:
    """A copy of the adapter with its tokenizer: training may remove the checkpoint while it is exported."""
    folder.mkdir()
    for name in _ADAPTER_FILES:
        if (source.checkpoint / name).is_file():
            shutil.copyfile(source.checkpoint / name, folder / name)
    if _hash(folder / ADAPTER_WEIGHTS) != source.adapter_sha256:
        raise SettingsError(
            f"{source.checkpoint} changed while it was read", "stop what writes there, then export once more"
        )


def _source(checkpoint: Path, why: str) -> Source:
    try:
        record = json.loads((checkpoint / RUN_FILE).read_text(encoding="utf-8"))
        # A setting that came with a later version is at what that version takes for how it was.
        config = config_from({**DEFAULTS, **record["config"]})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(
            f"{checkpoint / RUN_FILE} does not say how the checkpoint was trained: {error}",
            "export a checkpoint that this version of tunestack, or an earlier one, has written",
        ) from error
    step = checkpoint_step(checkpoint) or 0
    return Source(checkpoint, step, why, config, _hash(checkpoint / ADAPTER_WEIGHTS))


def _other_runs(folder: Path) -> str:
    runs = sorted(path.name for path in folder.iterdir() if checkpoints(path)) if folder.is_dir() else []
    return f"train it first, or export one of these: {', '.join(runs)}" if runs else "train a run first"


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
