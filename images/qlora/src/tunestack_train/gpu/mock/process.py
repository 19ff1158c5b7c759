"""What concerns neither tensors nor one kind of device: autocast, generators, torch.accelerator, threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch

from .operations import Operations

if TYPE_CHECKING:
    from .patches import Patches
    from .simulation import Simulation


def simulate_autocast(simulation: Simulation, patches: Patches) -> None:
    """Within autocast of the simulated kind, that of the CPU is on as well, with the same dtype."""
    own = torch.amp.autocast_mode.autocast

    def enter(self: Any) -> Any:
        if self.device == simulation.kind:
            before = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
            self.__dict__.setdefault("_tunestack_before", []).append(before)
            torch.set_autocast_enabled("cpu", self._enabled)
            torch.set_autocast_dtype("cpu", self.fast_dtype)
        return real_enter(self)

    def leave(self: Any, *error: Any) -> Any:
        result = real_leave(self, *error)
        if self.__dict__.get("_tunestack_before"):
            enabled, dtype = self._tunestack_before.pop()
            torch.set_autocast_enabled("cpu", enabled)
            torch.set_autocast_dtype("cpu", dtype)
        return result

    real_enter = patches.replace(own, "__enter__", enter)
    real_leave = patches.replace(own, "__exit__", leave)


def simulate_generators(simulation: Simulation, patches: Patches) -> None:
    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, torch._C.Generator)

    class Generator(torch._C.Generator, metaclass=Kind):
        """A generator that may belong to a simulated device; its numbers come from the CPU's algorithm."""

        place: torch.device | None = None

        def __new__(cls, device: Any = "cpu") -> Any:
            place = simulation.parse(device)
            generator = super().__new__(cls) if place is not None else torch._C.Generator.__new__(cls, device)  # type: ignore[call-arg]
            generator.place = place
            return generator

        def __init__(self, device: Any = "cpu") -> None:
            pass

        @property
        def device(self) -> torch.device:  # type: ignore[override]
            return self.place or super().device

    patches.replace(torch, "Generator", Generator)


def simulate_accelerator(simulation: Simulation, patches: Patches) -> None:
    def set_index(device: Any) -> None:
        simulation.current = simulation.of(device).device.index

    functions: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: len(simulation.devices),
        "current_accelerator": lambda check_available=False: torch.device(simulation.kind),  # noqa: ARG005
        "current_device_index": lambda: simulation.current,
        "current_device_idx": lambda: simulation.current,
        "set_device_index": set_index,
        "set_device_idx": set_index,
        "synchronize": lambda device=None: None,  # noqa: ARG005
    }
    if simulation.kind == "cuda":
        functions["current_stream"] = lambda device=None: torch.cuda.current_stream(device)
    for name, function in functions.items():
        if hasattr(torch.accelerator, name):
            patches.replace(torch.accelerator, name, function)


def simulate_threads(simulation: Simulation, patches: Patches) -> None:
    """PyTorch looks at operations thread by thread: each thread that is started now looks at its own."""

    def start(self: threading.Thread) -> None:
        run = self.run

        def run_simulated() -> None:
            with Operations(simulation):
                run()

        self.run = run_simulated  # type: ignore[method-assign]
        real_start(self)

    real_start = patches.replace(threading.Thread, "start", start)
