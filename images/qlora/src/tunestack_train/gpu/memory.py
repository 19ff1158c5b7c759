"""Memory of a device: figures, the cache, and a guard around work that may need too much."""

from __future__ import annotations

import gc
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import host
from .choice import resolve_device

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

# What PyTorch 2.7 says where it has no exception of its own: its CPU allocator, MPS, and libraries of CUDA.
_FULL = (
    "can't allocate memory",
    "not enough memory",
    "MPS backend out of memory",
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


@dataclass(frozen=True)
class MemoryFigures:
    """Bytes. What PyTorch does not tell for this kind of device is None."""

    allocated: int | None
    """In tensors now."""
    peak_allocated: int | None
    """Most in tensors since the last `reset_peak`. CUDA only."""
    reserved: int | None
    """Taken from the device by PyTorch, its cache included."""
    free: int
    total: int

    def __str__(self) -> str:
        parts = [
            ("in tensors", self.allocated),
            ("at most", self.peak_allocated),
            ("reserved", self.reserved),
            ("free", self.free),
            ("in all", self.total),
        ]
        return ", ".join(f"{show_bytes(count)} {name}" for name, count in parts if count is not None)


def show_bytes(count: float) -> str:
    """`count` bytes in the largest binary unit that keeps it above one: `1.5 GiB`."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def memory_figures(device: torch.device | str | None = None) -> MemoryFigures:
    """Memory of `device` now; of the machine where it is the CPU."""
    import torch

    given = resolve_device(device)
    if given.type == "cuda":
        free, total = torch.cuda.mem_get_info(given)
        return MemoryFigures(
            torch.cuda.memory_allocated(given),
            torch.cuda.max_memory_allocated(given),
            torch.cuda.memory_reserved(given),
            free,
            total,
        )
    if given.type == "mps":
        total, reserved = torch.mps.recommended_max_memory(), torch.mps.driver_allocated_memory()
        return MemoryFigures(torch.mps.current_allocated_memory(), None, reserved, max(0, total - reserved), total)
    total, free = host.memory()
    return MemoryFigures(None, None, None, free, total)


def reset_peak(device: torch.device) -> None:
    """Starts `peak_allocated` anew. Only CUDA keeps one."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def synchronize(device: torch.device | str | None = None) -> None:
    """Waits until all work given to `device` is done. A CPU's is done when the call returns."""
    import torch

    given = resolve_device(device)
    if given.type == "cuda":
        torch.cuda.synchronize(given)
    elif given.type == "mps":
        torch.mps.synchronize()


def empty_cache(device: torch.device | str | None = None) -> None:
    """Collects what nobody refers to any more and returns cached memory to the device. Slow: not for every step."""
    given = resolve_device(device)
    gc.collect()
    return_cache(given)


def return_cache(device: torch.device) -> None:
    """Returns cached memory to `device`, and leaves to the collector what refers to itself: quicker."""
    import torch

    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory, of a GPU or of the machine, is full."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _FULL)


@contextmanager
def gpu_memory_guard(device: torch.device | str | None = None, *, required: int = 0) -> Iterator[MemoryFigures]:
    """Work that may fill the memory of `device`: what it leaves in the cache is returned, however it ends.

    Yields the figures from before. When memory runs out, what the frames of the failed calls hold is let go, the cache
    is emptied, and torch.OutOfMemoryError is raised with the figures of before and after; `except` clauses for
    PyTorch's own error catch it. With `required`, in bytes, it is raised at once when less is free.
    """
    import torch

    given = resolve_device(device)
    before = memory_figures(given)
    if before.free < required:
        raise torch.OutOfMemoryError(
            f"{given} has {show_bytes(before.free)} free and {show_bytes(required)} are required ({before})"
        )
    full: BaseException | None = None
    try:
        yield before
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        full = error
    finally:
        if full is not None:
            # The tensors of the failed calls live on in their frames, which the traceback holds.
            at_failure = memory_figures(given)
            first_line = str(full).partition("\n")[0] or type(full).__name__
            release_frames(full)
        empty_cache(given)
    if full is not None:
        raise torch.OutOfMemoryError(
            f"{first_line}\n{given} before: {before}\n{given} when it was full: {at_failure}\n"
            f"{given} now: {memory_figures(given)}\n"
            "Take a smaller batch (get_optimal_batch_size finds one) or a lower precision, or checkpoint activations."
        ) from None


def release_frames(error: BaseException) -> None:
    """Lets go of the variables of the calls that `error` ended, and of those that led to it in the same chain."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        traceback.clear_frames(current.__traceback__)
        current = current.__cause__ or current.__context__
