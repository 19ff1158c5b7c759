"""The architecture of a run's base model, wherever that can be had without a download."""

from pathlib import Path

from tunestack_train.estimate.architecture import Architecture, UnknownArchitecture, from_config, read
from tunestack_train.estimate.models import known
from tunestack_train.presets import REHEARSAL_MODEL
from tunestack_train.settings import RunConfig


def architecture_of(config: RunConfig) -> Architecture:
    """From the model's folder, the cache, or the facts in `models`. Raises UnknownArchitecture, which says why not."""
    from tunestack_train.rehearsal import SHAPE

    if config.model == REHEARSAL_MODEL:
        return from_config({"model_type": "gemma2", **SHAPE})
    folder = Path(config.model).expanduser()
    if folder.is_dir():
        return read(folder)
    facts = known(config.model)
    if facts is not None:
        return from_config(facts)
    cached = None if config.model.startswith(("/", ".", "~")) else _cached(config)
    if cached is None:
        raise UnknownArchitecture(f"nothing is known of {config.model} before its config.json is here")
    return read(cached)


def _cached(config: RunConfig) -> Path | None:
    """The hub's cache is read by the hub's package, which an estimate outside of the image need not have."""
    from tunestack_train.model import cached_model

    try:
        return cached_model(config.model, config.model_revision)
    except ModuleNotFoundError:
        return None
