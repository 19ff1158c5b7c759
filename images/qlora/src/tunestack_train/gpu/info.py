"""What the devices of this machine are and can do."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import host
from .choice import DeviceType, existing_index, is_available, remedy_for, resolve_device
from .errors import DeviceUnavailableError
from .precision import get_amp_dtype, has_bf16, supports_amp

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class GPUInfo:
    """One device as it is now. Memory in bytes; for a CPU it is the machine's, or its container's."""

    device_type: DeviceType
    index: int | None
    """Number of the GPU as PyTorch counts them; None for the CPU and for MPS."""
    name: str
    total_memory: int
    free_memory: int
    compute_capability: tuple[int, int] | None
    """Of CUDA devices, such as (8, 9)."""
    multiprocessors: int | None
    supports_bf16: bool
    """Whether the hardware computes in bf16; emulation does not count."""
    supports_amp: bool
    amp_dtype: str
    """`bfloat16` or `float16`: what `get_amp_dtype` gives."""

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device(self.device_type.value) if self.index is None else torch.device("cuda", self.index)


def device_of(model: torch.nn.Module) -> torch.device:
    """Where the first parameter, or else the first buffer, of a model lies; the CPU for a model without any."""
    import torch

    tensors = itertools.chain(model.parameters(), model.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def get_device_info(device: torch.device | str | int | None = None) -> GPUInfo:
    """What `device` is and has free now; without one, the current device of the best kind there is.

    Raises DeviceUnavailableError when it is not there.
    """
    import torch

    given = resolve_device(device)
    if given.type not in tuple(DeviceType):
        raise DeviceUnavailableError(f"{given}: this library knows cuda, mps and cpu")
    kind = DeviceType(given.type)
    if not is_available(kind):
        raise DeviceUnavailableError(
            f"{given}: PyTorch {torch.__version__} finds no such device here; {remedy_for(kind)}"
        )
    index, capability, multiprocessors = None, None, None
    if kind is DeviceType.CUDA:
        index = existing_index(given.index, torch.cuda.device_count(), str(given))
        properties = torch.cuda.get_device_properties(index)
        name, multiprocessors = properties.name, properties.multi_processor_count
        capability = (properties.major, properties.minor)
        free, total = torch.cuda.mem_get_info(index)
    elif kind is DeviceType.MPS:
        name, total = "Apple GPU", torch.mps.recommended_max_memory()
        free = max(0, total - torch.mps.driver_allocated_memory())
    else:
        threads = torch.get_num_threads()
        name = f"CPU, {threads} thread{'' if threads == 1 else 's'}"
        total, free = host.memory()
    return GPUInfo(
        device_type=kind,
        index=index,
        name=name,
        total_memory=total,
        free_memory=free,
        compute_capability=capability,
        multiprocessors=multiprocessors,
        supports_bf16=has_bf16(given),
        supports_amp=supports_amp(given),
        amp_dtype=str(get_amp_dtype(given)).removeprefix("torch."),
    )


def list_devices() -> list[GPUInfo]:
    """All devices of this machine, best first: each CUDA GPU, then MPS, then the CPU."""
    import torch

    cuda = range(torch.cuda.device_count()) if is_available(DeviceType.CUDA) else range(0)
    others = [kind for kind in (DeviceType.MPS, DeviceType.CPU) if is_available(kind)]
    return [get_device_info(device) for device in (*cuda, *(kind.value for kind in others))]
