"""torch.cuda over simulated devices."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .simulation import NotSimulatedError, SimulatedDevice, Simulation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .patches import Patches


_NOT_SIMULATED = ("CUDAGraph", "ExternalStream", "MemPool", "graph", "make_graphed_callables")


@dataclass(frozen=True)
class DeviceProperties:
    """What torch.cuda.get_device_properties tells of a simulated GPU; what only hardware has is that of an Ada GPU."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    is_integrated: int = 0
    is_multi_gpu_board: int = 0
    max_threads_per_multi_processor: int = 1536
    regs_per_multiprocessor: int = 65536
    warp_size: int = 32
    L2_cache_size: int = 75497472
    gcnArchName: str = "simulated"  # noqa: N815 - PyTorch's name


class Event:
    """Operations are done when they return: an event is a time."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - PyTorch's signature
        self._timed = enable_timing
        self._recorded: float | None = None

    def record(self, stream: Any = None) -> None:  # noqa: ARG002 - PyTorch's signature
        self._recorded = time.perf_counter()

    def wait(self, stream: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return True

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to the other."""
        if not (self._timed and end_event._timed):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self._recorded is None or end_event._recorded is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        return (end_event._recorded - self._recorded) * 1e3


class Stream:
    """Operations are done when they return, in every stream."""

    simulation: Simulation

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.device = self.simulation.of(device).device
        self.priority = priority
        self.cuda_stream = self.stream_id = 0
        self.device_index = self.device.index
        self._before: list[Any] = []

    def synchronize(self) -> None:
        pass

    def wait_stream(self, stream: Any) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass

    def query(self) -> bool:
        return True

    def record_event(self, event: Event | None = None) -> Event:
        recorded = event or Event()
        recorded.record(self)
        return recorded

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.device == self.device

    def __hash__(self) -> int:
        return hash(self.device)


def simulate_cuda_module(simulation: Simulation, patches: Patches) -> None:
    functions = {
        **_device_functions(simulation),
        **_memory_functions(simulation),
        **_random_functions(simulation),
        **_stream_functions(simulation),
    }
    modules = (torch.cuda, torch.cuda.memory, torch.cuda.random, torch.cuda.streams)
    for name, function in functions.items():
        for module in modules:
            if hasattr(module, name):
                patches.replace(module, name, function)
    for name in _NOT_SIMULATED:
        patches.replace(torch.cuda, name, functools.partial(_refuse, name))
    for name in ("range_push", "range_pop", "range_start", "range_end", "mark"):
        patches.replace(torch.cuda.nvtx, name, lambda *_: 0)
    patches.replace(torch.cuda.nvtx, "range", lambda *_args, **_kwargs: contextlib.nullcontext())
    patches.replace(torch.backends.cuda, "is_built", lambda: True)
    # Else LSTM and GRU hand their weights, which lie on the CPU, to cuDNN.
    patches.replace(torch.backends.cudnn, "is_acceptable", lambda _: False)


def _refuse(name: str, *_: Any, **__: Any) -> None:
    raise NotSimulatedError(
        f"torch.cuda.{name} needs a real GPU: tunestack_train.gpu.mock does not simulate it (docs/gpu.md says what it "
        "does)"
    )


def _device_functions(simulation: Simulation) -> dict[str, Any]:
    described = [each.specification for each in simulation.devices]

    def properties(device: Any = None) -> DeviceProperties:
        what = simulation.of(device).specification
        return DeviceProperties(what.name, *what.compute_capability, what.total_memory, what.multiprocessors)

    def exchange(index: int) -> int:
        before = simulation.current
        if index >= 0:
            simulation.current = index
        return before

    def set_device(device: Any) -> None:
        if not (isinstance(device, int) and device < 0):
            simulation.current = simulation.of(device).device.index

    def is_bf16_supported(including_emulation: bool = True) -> bool:  # noqa: FBT001, FBT002 - PyTorch's signature
        return including_emulation or simulation.of().specification.has_bf16

    def lazy_init() -> None:
        caller = sys._getframe(1)
        if caller.f_globals.get("__name__", "").startswith("torch.cuda"):
            _refuse(caller.f_code.co_name)

    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "init": lambda: None,
        "_lazy_init": lazy_init,
        "device_count": lambda: len(simulation.devices),
        "current_device": lambda: simulation.current,
        "set_device": set_device,
        "_exchange_device": exchange,
        "_maybe_exchange_device": exchange,
        "get_device_name": lambda device=None: properties(device).name,
        "get_device_capability": lambda device=None: (properties(device).major, properties(device).minor),
        "get_device_properties": properties,
        "get_arch_list": lambda: sorted({"sm_{}{}".format(*each.compute_capability) for each in described}),
        "can_device_access_peer": lambda device, peer: simulation.of(device) is not simulation.of(peer),
        "is_bf16_supported": is_bf16_supported,
        "is_tf32_supported": lambda: simulation.of().specification.compute_capability >= (8, 0),
        "is_current_stream_capturing": lambda: False,
    }


def _memory_functions(simulation: Simulation) -> dict[str, Any]:
    def mem_get_info(device: Any = None) -> tuple[int, int]:
        there = simulation.of(device)
        return there.free, there.specification.total_memory

    def reset_peak(device: Any = None) -> None:
        there = simulation.of(device)
        there.peak = there.allocated

    def set_fraction(fraction: float, device: Any = None) -> None:
        if not 0 <= fraction <= 1:
            raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
        simulation.of(device).fraction = fraction

    def allocated(device: Any = None) -> int:
        return simulation.of(device).allocated

    def peak(device: Any = None) -> int:
        return simulation.of(device).peak

    def stats(device: Any = None) -> dict[str, int]:
        there = simulation.of(device)
        figures = {"current": there.allocated, "peak": there.peak}
        kinds = ("allocated_bytes", "reserved_bytes", "active_bytes", "requested_bytes")
        return {f"{kind}.all.{name}": value for kind in kinds for name, value in figures.items()}

    def summary(device: Any = None, abbreviated: bool = False) -> str:  # noqa: ARG001, FBT001, FBT002 - as in PyTorch
        there = simulation.of(device)
        return f"{there.device} (simulated): {there.allocated} B allocated, at most {there.peak} B"

    return {
        "mem_get_info": mem_get_info,
        "memory_allocated": allocated,
        "memory_reserved": allocated,
        "memory_cached": allocated,
        "max_memory_allocated": peak,
        "max_memory_reserved": peak,
        "max_memory_cached": peak,
        "reset_peak_memory_stats": reset_peak,
        "reset_max_memory_allocated": reset_peak,
        "reset_max_memory_cached": reset_peak,
        "reset_accumulated_memory_stats": lambda device=None: None,  # noqa: ARG005
        "memory_stats": stats,
        "memory_summary": summary,
        "set_per_process_memory_fraction": set_fraction,
        "get_per_process_memory_fraction": lambda device=None: simulation.of(device).fraction,
        "empty_cache": lambda: None,
        "ipc_collect": lambda: None,
    }


def random_state(there: SimulatedDevice) -> torch.Tensor:
    return there.generator.get_state()


def _random_functions(simulation: Simulation) -> dict[str, Any]:
    def seed_all(seed: int) -> None:
        for each in simulation.devices:
            each.generator.manual_seed(int(seed))

    def initial_seed() -> int:
        return simulation.of().generator.initial_seed()

    def random_seed_all() -> None:
        seed_all(simulation.of().generator.seed())

    def set_states(states: Any) -> None:
        for each, state in zip(simulation.devices, states, strict=False):
            each.generator.set_state(state)

    return {
        "manual_seed": lambda seed: simulation.of().generator.manual_seed(int(seed)) and None,
        "manual_seed_all": seed_all,
        "seed": lambda: simulation.of().generator.seed() and None,
        "seed_all": random_seed_all,
        "initial_seed": initial_seed,
        "get_rng_state": lambda device=None: random_state(simulation.of(device)),
        "get_rng_state_all": lambda: [random_state(each) for each in simulation.devices],
        "set_rng_state": lambda new_state, device=None: simulation.of(device).generator.set_state(new_state) and None,
        "set_rng_state_all": set_states,
    }


def _stream_functions(simulation: Simulation) -> dict[str, Any]:
    own: type[Stream] = type("Stream", (Stream,), {"simulation": simulation})

    @contextlib.contextmanager
    def stream(entered: Any) -> Iterator[None]:
        before = simulation.current
        if entered is not None:
            simulation.current = entered.device.index
        try:
            yield
        finally:
            simulation.current = before

    return {
        "Stream": own,
        "Event": Event,
        "stream": stream,
        "current_stream": lambda device=None: own(device),
        "default_stream": lambda device=None: own(device),
        "set_stream": lambda stream: None,  # noqa: ARG005
        "synchronize": lambda device=None: simulation.of(device) and None,
    }
