"""The most memory that a piece of work took, by the best means that each device has."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .memory import reset_peak, return_cache, synchronize

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


@dataclass(frozen=True)
class Peak:
    """Bytes above which memory in use did not go, and how that is known."""

    allocated: int
    """In tensors, weights and inputs included where they lie on the same device."""
    reserved: int
    """Taken from the device; the same as `allocated` where nothing is cached."""
    source: str


def measure_peak(work: Callable[[], Any], device: torch.device, resident: int) -> Peak:
    """Runs `work` once and says what it took. `resident`: bytes of weights and inputs that lie there before.

    CUDA has exact peaks. MPS keeps none: what its allocator has taken from the device afterwards, after an empty cache,
    comes close from above. On the CPU PyTorch's profiler counts each allocation of tensors; what libraries take past
    PyTorch's allocator is not in it.
    """
    import torch

    if device.type == "cuda":
        return_cache(device)
        reset_peak(device)
        work()
        synchronize(device)
        return Peak(
            torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device), "CUDA allocator, exact"
        )
    if device.type == "mps":
        return_cache(device)
        work()
        synchronize(device)
        taken = torch.mps.driver_allocated_memory()
        return Peak(taken, taken, "MPS driver, cache included")
    allocated = resident + _profiled_growth(work)
    return Peak(allocated, allocated, "PyTorch's profiler: tensors on the CPU, weights and inputs included")


def _profiled_growth(work: Callable[[], Any]) -> int:
    """Most bytes that were allocated at once during `work` over what was before."""
    from torch._C._autograd import DeviceType as ProfiledDevice
    from torch.profiler import ProfilerActivity, profile

    # Else a PyTorch built for CUDA complains on standard error that it finds no GPU to profile.
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = profiler.profiler.kineto_results.events()
    changes = sorted(
        (event.start_ns(), event.nbytes())
        for event in events
        if event.name() == "[memory]" and event.device_type() == ProfiledDevice.CPU
    )
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def bytes_of(tensors: Any) -> int:
    """Bytes of the given tensors; memory that several share counts once."""
    sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(sizes.values())
