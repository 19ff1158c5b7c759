"""What an export needs of disk and memory, looked at before it begins."""

import json
import shutil
import struct
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Final

from tunestack_train.device import Device
from tunestack_train.errors import DiskFullError, OutOfMemoryError
from tunestack_train.export.gguf_files import QUANTISATIONS
from tunestack_train.gpu import host

_RESERVE_BYTES: Final = 64 << 20
# What loading a model and comparing its distributions takes beside its weights: PyTorch itself, the tensors of one
# layer, and two tables of log-probabilities.
_BESIDE_WEIGHTS: Final = 1.2
_LIBRARIES_BYTES: Final = 1500 << 20


def count_parameters(folder: Path) -> int:
    """Weights of a model folder, from the headers of its safetensors files."""
    return sum(
        prod(entry["shape"])
        for file in sorted(folder.glob("*.safetensors"))
        for name, entry in _header(file).items()
        if name != "__metadata__"
    )


def bytes_on_disk(parameters: int, quantisations: Iterable[str]) -> int:
    """What an export takes: safetensors in bf16, GGUF in f16, and each quantisation."""
    chosen = list(quantisations)
    bits = 16 + (16 if chosen else 0) + sum(QUANTISATIONS[name].bits for name in chosen)
    return int(parameters * bits / 8)


def require_disk(folder: Path, needed: int) -> None:
    """Raises DiskFullError unless `folder` has room for `needed` bytes and a little more."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed + _RESERVE_BYTES:
        raise DiskFullError(
            f"the export takes {needed / 1e9:.1f} GB and {existing} has {free / 1e9:.1f} GB free",
            "make room on that disk (older exports lie in its folders), or ask for less: --quantisation none writes "
            "safetensors alone",
        )


def require_memory(parameters: int) -> None:
    """Raises OutOfMemoryError unless the model fits into memory in bf16, as merging needs it."""
    needed = int(parameters * 2 * _BESIDE_WEIGHTS) + _LIBRARIES_BYTES
    _, available = host.memory()
    if available < needed:
        raise OutOfMemoryError(
            f"merging {parameters / 1e9:.2f} billion weights in bf16 takes {needed / 2**30:.1f} GiB of memory, and "
            f"{available / 2**30:.1f} GiB are available",
            "end what else uses memory; in a container raise its limit (training.memory); or export on a machine with "
            "more: the checkpoint is all that is needed there (npm run restore)",
        )


def place(device: Device, parameters: int) -> Device:
    """The device where the models of an export go one after the other: the CPU where a GPU has too little memory."""
    if device.kind != "cuda":
        return Device("cpu", device.name if device.kind == "cpu" else "CPU", None)
    import torch

    free, _ = torch.cuda.mem_get_info(device.index)
    return device if free > parameters * 2 * _BESIDE_WEIGHTS else Device("cpu", "CPU (the GPU is too small)", None)


def _header(file: Path) -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the tensors (https://huggingface.co/docs/safetensors: 8 bytes of length, then JSON)."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header: dict[str, dict[str, list[int]]] = json.loads(opened.read(length))
    return header
