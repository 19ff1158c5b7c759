"""The simulated devices: which memory is whose, what it comes to, and each device's random numbers.

A simulated device computes on the CPU. Where a tensor lies is kept on its storage, the piece of memory that it shares
with its views, its gradients' history and whatever else points to the same bytes.
"""

from __future__ import annotations

import enum
import os
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

    from .specification import SimulatedGPU

_PLACE: Final = "_tunestack_place"
_PINNED: Final = "_tunestack_pinned"
# PyTorch's CUDA allocator rounds to this (c10/cuda/CUDACachingAllocator.cpp, kMinBlockSize).
_BLOCK: Final = 512


class Undecided(enum.Enum):
    """The place of what PyTorch's C++ made for itself within an operation: it goes where it is first used."""

    UNDECIDED = "undecided"


UNDECIDED: Final = Undecided.UNDECIDED


class NotSimulatedError(RuntimeError):
    """Something of a real GPU that a simulated one has not."""


class SimulatedDevice:
    """One device's memory and random numbers."""

    def __init__(self, specification: SimulatedGPU, device: torch.device) -> None:
        import torch

        self.specification = specification
        self.device = device
        self.fraction = 1.0
        self.allocated = self.peak = 0
        self.generator = torch._C.Generator()
        self._lock = threading.RLock()  # a storage may be collected while the lock is held

    @property
    def free(self) -> int:
        return self.specification.total_memory - self.specification.used_by_others - self.allocated

    def take(self, count: int) -> None:
        """Accounts for `count` bytes. Raises torch.OutOfMemoryError, in PyTorch's words, when there are not so many."""
        with self._lock:
            limit = int(self.specification.total_memory * self.fraction) - self.allocated
            if count > min(self.free, limit):
                raise self._full(count)
            self.allocated += count
            self.peak = max(self.peak, self.allocated)

    def _full(self, count: int) -> Exception:
        import torch

        gib = 1 << 30
        return torch.OutOfMemoryError(
            f"{self.device.type.upper()} out of memory. Tried to allocate {count / gib:.2f} GiB. "
            f"GPU {self.device.index} has a total capacity of {self.specification.total_memory / gib:.2f} GiB "
            f"of which {self.free / gib:.2f} GiB is free. Of the allocated memory {self.allocated / gib:.2f} GiB "
            "is allocated by PyTorch. (The device is simulated by tunestack_train.gpu.mock.)"
        )

    def give_back(self, count: int) -> None:
        with self._lock:
            self.allocated -= count


class Simulation:
    """Devices of one kind that are simulated while it is active."""

    def __init__(self, kind: str, specifications: Sequence[SimulatedGPU]) -> None:
        import torch

        self.kind = kind
        self.active = False
        self.undo: Callable[[], None] = lambda: None
        self.devices = [
            SimulatedDevice(specification, torch.device(kind, index))
            for index, specification in enumerate(specifications)
        ]
        self.cpu = torch.device("cpu")
        self._process = os.getpid()
        self._here = _PerThread()

    # --- which device ----------------------------------------------------------------------------------------------

    @property
    def current(self) -> int:
        """The current device of this thread, as CUDA has it."""
        return self._here.current

    @current.setter
    def current(self, index: int) -> None:
        self.at(index)
        self._here.current = index

    @property
    def explicit(self) -> torch.device | None:
        """Where the running operation was told to put what it makes; None when it was not told."""
        return self._here.explicit

    @contextmanager
    def placing(self, device: torch.device | None) -> Iterator[None]:
        before, self._here.explicit = self._here.explicit, device
        try:
            yield
        finally:
            self._here.explicit = before

    def parse(self, device: Any) -> torch.device | None:
        """`device` (text, number, torch.device) with its index when it is one of the simulated ones, else None."""
        import torch

        if device is None:
            return None
        if isinstance(device, int):
            device = torch.device(self.kind, device)
        elif not isinstance(device, torch.device):
            device = torch.device(device)
        if device.type != self.kind:
            return None
        return self.at(self.current if device.index is None else device.index).device

    def at(self, index: int) -> SimulatedDevice:
        if not 0 <= index < len(self.devices):
            raise RuntimeError(
                f"CUDA error: invalid device ordinal (device {index} of {len(self.devices)} that "
                "tunestack_train.gpu.mock simulates)"
            )
        return self.devices[index]

    def of(self, device: Any = None) -> SimulatedDevice:
        """The device that a function of torch.cuda was asked for; the current one without one."""
        if device is None or (isinstance(device, int) and device < 0):
            return self.at(self.current)
        parsed = self.parse(device)
        if parsed is None:
            raise ValueError(f"Expected a {self.kind} device, but got: {device}")
        return self.at(parsed.index)

    # --- where a tensor lies ---------------------------------------------------------------------------------------

    def place_of(self, tensor: torch.Tensor) -> torch.device | Undecided | None:
        """The simulated device that a tensor lies on, UNDECIDED, or None for the CPU."""
        try:
            return getattr(tensor.untyped_storage(), _PLACE, None)
        except (NotImplementedError, RuntimeError):  # sparse and other tensors without a storage
            return None

    def device_of(self, tensor: torch.Tensor) -> torch.device | None:
        """The simulated device that a tensor lies on; None for the CPU, and once the simulation is over."""
        place = self.place_of(tensor) if self.active else None
        return None if isinstance(place, Undecided) else place

    def device_of_storage(self, storage: Any) -> torch.device | None:
        place = getattr(storage, _PLACE, None) if self.active else None
        return None if isinstance(place, Undecided) else place

    def put(self, storage: Any, place: torch.device | Undecided | None) -> None:
        """Notes where a storage lies and accounts for its memory until it is gone. Raises torch.OutOfMemoryError."""
        if place is None:
            if getattr(storage, _PLACE, None) is UNDECIDED:
                delattr(storage, _PLACE)
            return
        if not isinstance(place, Undecided):
            if os.getpid() != self._process:
                raise RuntimeError(
                    "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use "
                    "the 'spawn' start method"
                )
            device = self.at(place.index)
            count = -(-storage.nbytes() // _BLOCK) * _BLOCK
            device.take(count)
            weakref.finalize(storage, device.give_back, count).atexit = False
        setattr(storage, _PLACE, place)

    @staticmethod
    def pinned(tensor: torch.Tensor) -> bool:
        return bool(getattr(tensor.untyped_storage(), _PINNED, False))

    @staticmethod
    def pin(tensor: torch.Tensor) -> None:
        setattr(tensor.untyped_storage(), _PINNED, True)


class _PerThread(threading.local):
    current = 0
    explicit: torch.device | None = None
