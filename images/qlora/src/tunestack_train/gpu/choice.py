"""Which device to take."""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING

from .errors import DeviceUnavailableError

if TYPE_CHECKING:
    import torch


class DeviceType(enum.StrEnum):
    """The kinds of device that this library knows, by PyTorch's names."""

    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"


def is_available(device_type: DeviceType) -> bool:
    """Whether PyTorch can use such a device here."""
    import torch

    if device_type is DeviceType.CUDA:
        return torch.cuda.is_available()
    return device_type is DeviceType.CPU or torch.backends.mps.is_available()


def resolve_device(device: torch.device | str | int | None = None) -> torch.device:
    """`device` with its index: `cuda` is the current CUDA device, None the current device of the best kind there is."""
    import torch

    if device is None:
        device = next(each for each in DeviceType if is_available(each)).value
    given = torch.device(f"cuda:{device}" if isinstance(device, int) else device)
    if str(given) == "cuda" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return given


def choose_device(wanted: str = "auto") -> torch.device:
    """The device for `wanted`: `auto` (CUDA, then MPS, then the CPU), `cuda`, `cuda:N`, `mps` or `cpu`.

    Of several GPUs it is the one with the most free memory; under torchrun, which sets LOCAL_RANK, the one of that
    number. Raises DeviceUnavailableError when it is not there.
    """
    import torch

    kind, _, number = wanted.partition(":")
    if kind == "auto":
        kind = next(each for each in DeviceType if is_available(each))
    if kind not in {each.value for each in DeviceType}:
        raise DeviceUnavailableError(f"device = {wanted}: no such kind of device; give auto, cuda, cuda:0, mps or cpu")
    if not is_available(DeviceType(kind)):
        raise DeviceUnavailableError(
            f"device = {wanted}: PyTorch {torch.__version__} finds no such device here; {remedy_for(DeviceType(kind))}"
        )
    if kind != DeviceType.CUDA:
        return torch.device(kind)
    count = torch.cuda.device_count()
    if number:
        return torch.device("cuda", existing_index(int(number), count, f"device = {wanted}"))
    rank = os.environ.get("LOCAL_RANK", "")
    if rank.isdecimal():
        remedy = f"; start at most {count} processes on this machine (torchrun --nproc-per-node={count})"
        return torch.device("cuda", existing_index(int(rank), count, f"LOCAL_RANK = {rank}", remedy))
    return torch.device("cuda", _with_most_free_memory(count))


def existing_index(index: int, count: int, asked: str, remedy: str = "") -> int:
    if index >= count:
        numbers = "0" if count == 1 else f"0 to {count - 1}"
        raise DeviceUnavailableError(
            f"{asked}: this machine shows PyTorch {count} GPU{'s' if count > 1 else ''}, number {numbers}{remedy}"
        )
    return index


def _with_most_free_memory(count: int) -> int:
    import torch

    if count == 1:  # asking makes a context, which takes memory
        return 0
    return max(range(count), key=lambda index: (torch.cuda.mem_get_info(index)[0], -index))


def remedy_for(kind: DeviceType) -> str:
    if kind is DeviceType.MPS:
        return "MPS needs a Mac with Apple silicon, macOS 12.3 or later and a PyTorch built for it"
    return "look at `nvidia-smi`, at CUDA_VISIBLE_DEVICES and at torch.version.cuda, or leave device at auto"
