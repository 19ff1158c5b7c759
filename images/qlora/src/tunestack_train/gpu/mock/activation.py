"""Switching a simulation on and off for the whole process."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .simulation import Simulation
    from .specification import SimulatedGPU

_lock = threading.RLock()
_active: list[Simulation] = []
_said: set[str] = set()


def active_simulation() -> Simulation | None:
    """The simulation that is on in this process."""
    return _active[-1] if _active else None


@contextmanager
def simulate(
    kind: str, specifications: Sequence[SimulatedGPU], notice: Callable[[str], None] | None
) -> Iterator[Simulation | None]:
    """Simulates devices of `kind` until it is left; None, and nothing is changed, where the machine has real ones.

    Raises RuntimeError while a simulation with other devices is on; one with the same devices is joined.
    """
    current = active_simulation()
    if current is not None:
        if current.kind != kind or [each.specification for each in current.devices] != list(specifications):
            raise RuntimeError(
                f"{len(current.devices)} {current.kind} device(s) are simulated already, other ones: leave that first"
            )
        yield current
        return
    if _is_real(kind):
        _say(notice, f"tunestack gpu.mock: this machine has a real {kind} device, so nothing is simulated")
        yield None
        return
    simulation = _switch_on(kind, specifications)
    first = specifications[0]
    _say(
        notice,
        f"tunestack gpu.mock: {len(specifications)} {kind} device(s) simulated on the CPU ({first.name}, "
        f"{first.total_memory / (1 << 30):.1f} GiB); memory figures count tensors, times say nothing about a GPU",
    )
    try:
        yield simulation
    finally:
        _switch_off(simulation)


def _say(notice: Callable[[str], None] | None, text: str) -> None:
    if notice is not None:
        notice(text)
    elif text not in _said:
        _said.add(text)
        sys.stderr.write(text + "\n")


def _is_real(kind: str) -> bool:
    import torch

    return torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()


def _switch_on(kind: str, specifications: Sequence[SimulatedGPU]) -> Simulation:
    import torch

    from .cuda import simulate_cuda_module
    from .mps import simulate_mps_module
    from .operations import Operations
    from .patches import Patches
    from .process import simulate_accelerator, simulate_autocast, simulate_generators, simulate_threads
    from .simulation import Simulation
    from .storages import simulate_storages
    from .tensors import simulate_tensors

    simulation, patches = Simulation(kind, specifications), Patches()
    steps: list[Callable[[Simulation, Patches], None]] = [
        simulate_tensors,
        simulate_storages,
        simulate_cuda_module if kind == "cuda" else simulate_mps_module,
        simulate_autocast,
        simulate_generators,
        simulate_accelerator,
        simulate_threads,
    ]
    operations = Operations(simulation)
    default = _default_device(torch)
    simulation.undo = lambda: _undo(torch, patches, operations, default)
    with _lock:
        try:
            for step in steps:
                step(simulation, patches)
        except BaseException:
            patches.undo()
            raise
        _active.append(simulation)
        simulation.active = True
        operations.__enter__()  # type: ignore[no-untyped-call]
    return simulation


def _switch_off(simulation: Simulation) -> None:
    with _lock:
        simulation.active = False
        _active.remove(simulation)
        simulation.undo()


def _undo(torch: Any, patches: Any, operations: Any, default: Any) -> None:
    patches.undo()
    _leave_mode(operations)
    if _default_device(torch) != default:
        torch.set_default_device(default)
        if default is None:
            # PyTorch 2.7 leaves None behind, and torch.get_default_device fails of it.
            del torch._GLOBAL_DEVICE_CONTEXT.device_context


def _default_device(torch: Any) -> Any:
    """What torch.set_default_device was last given in this thread."""
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    return None if context is None else context.device


def _leave_mode(mode: Any) -> None:
    """Takes a mode off this thread's stack wherever it stands: code may have left others on it."""
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack, _pop_mode, _push_mode

    above = []
    stack = _get_current_dispatch_mode_stack()  # type: ignore[no-untyped-call]
    if not any(each is mode for each in stack):
        return  # left in another thread than it was entered in: it passes everything through
    while (popped := _pop_mode()) is not mode:
        above.append(popped)
    for each in reversed(above):
        _push_mode(each)
