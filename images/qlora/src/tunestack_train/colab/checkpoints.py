"""The newest and the best among the checkpoints of whatever training code wrote them."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MODEL_FILES: Final = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".gguf", ".h5", ".keras", ".onnx", ".msgpack")


def newest(folder: Path) -> Path | None:
    """The checkpoint written last that is whole, a file or a folder; None where there is none.

    A file that a cut-off session left half-written is passed over, where its format tells.
    """
    found = sorted(_checkpoints(folder), key=lambda path: path.stat().st_mtime)
    return found[-1] if found else None


def best(folder: Path) -> Path | None:
    """What training says is best, else what it called so, else its result, else the newest checkpoint.

    `trainer_state.json` of transformers names the best checkpoint; `adapter` is the result of a run of tunestack.
    """
    if not folder.is_dir():
        return None
    named = sorted(folder.rglob("best*"), key=lambda path: path.stat().st_mtime)
    adapters = sorted(
        (path for path in folder.rglob("adapter") if path.is_dir()), key=lambda path: path.stat().st_mtime
    )
    for found in (_named_by_trainer(folder), named[-1] if named else None, adapters[-1] if adapters else None):
        if found is not None:
            return found
    return newest(folder)


def _named_by_trainer(folder: Path) -> Path | None:
    states = sorted(folder.rglob("trainer_state.json"), key=lambda path: path.stat().st_mtime)
    for state in reversed(states):
        try:
            name = json.loads(state.read_text(encoding="utf-8")).get("best_model_checkpoint")
        except (OSError, ValueError, AttributeError):
            continue
        # Written with the path of the session that trained, so only its name counts.
        found = state.parent.parent / Path(name).name if isinstance(name, str) and name else None
        if found is not None and found.is_dir():
            return found
    return None


def _checkpoints(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or path.name.endswith((".tmp", ".partial", ".damaged")):
            continue
        if path.is_file() and path.suffix in _MODEL_FILES and _is_whole(path):
            # A model in several files is its folder; one file beside others like it is a checkpoint itself.
            yield path.parent if path.suffix == ".safetensors" and path.parent != folder else path


def _is_whole(path: Path) -> bool:
    """PyTorch's files are zip archives, whose table of contents is written last."""
    with path.open("rb") as file:
        start = file.read(2)
    return bool(start) and (start != b"PK" or zipfile.is_zipfile(path))
