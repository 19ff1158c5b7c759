"""`tunestack-train run --dry-run`: settings, data and model as a run would take them, without training."""

import json
from pathlib import Path

from tunestack_train.data.load import TrainingData, load
from tunestack_train.errors import ModelUnavailableError
from tunestack_train.presets import REHEARSAL_MODEL
from tunestack_train.resolve import Resolved
from tunestack_train.secret_files import read_secret
from tunestack_train.settings import HUB_PREFIX


def show(resolved: Resolved, *, as_json: bool) -> int:
    """Prints what a run of these settings would do; raises as the run would for what is wrong."""
    config = resolved.config
    model = _model_state(config.model, config.model_revision)
    data = None if config.data.startswith(HUB_PREFIX) else load(config.data, config.data_format)
    if as_json:
        report = {
            "config": config.as_dict(),
            "sources": dict(resolved.sources),
            "data": None if data is None else data.summary(),
            "model": model,
        }
        print(json.dumps(report, indent=1))
        return 0
    for key, value in config.as_dict().items():
        print(f"{key:28} {value!s:40} {resolved.sources[key]}")
    print(f"\nmodel: {config.model}: {model}")
    print(_describe_data(data, config.data))
    return 0


def _model_state(model: str, revision: str) -> str:
    from tunestack_train.model import cached_model, gated_error, needs_token

    if model == REHEARSAL_MODEL:
        return "made on the spot"
    if Path(model).expanduser().is_dir():
        return "a folder here"
    if model.startswith(("/", ".", "~")):
        raise ModelUnavailableError(f"there is no folder {model}", "give an existing folder, or an id of the hub")
    if cached_model(model, revision) is not None:
        return "in the cache"
    if needs_token(model) and read_secret("hf-token", "HF_TOKEN") is None:
        raise gated_error(model, None)
    return "to be downloaded from the Hugging Face hub"


def _describe_data(data: TrainingData | None, source: str) -> str:
    if data is None:
        return f"data: {source}, to be downloaded from the Hugging Face hub"
    return f"data: {data.rows} rows of {data.data_format} in {', '.join(data.files)} (sha256 {data.sha256[:12]})"
