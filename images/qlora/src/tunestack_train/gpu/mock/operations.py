"""Every operation of PyTorch on its way to the CPU: results lie where their inputs do, and inputs lie together."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from torch import OutOfMemoryError, Tag, Tensor, default_generator, float64
from torch.utils._python_dispatch import TorchDispatchMode

from .simulation import UNDECIDED, Simulation, Undecided

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

# Operations that take tensors of several devices: transfers, indices and lengths that stay on the CPU, and lists whose
# items are used one by one. All others refuse them, but for numbers (tensors without dimensions) on the CPU.
_MIXED = frozenset({"copy_", "_to_copy", "set_", "_pack_padded_sequence", "tensor_split"})
_INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"})
_random_lock = threading.Lock()


class Operations(TorchDispatchMode):
    """Seen are also the operations that the autograd engine runs, and those within others."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._simulation = simulation

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        simulation = self._simulation
        if not simulation.active:
            return func(*args, **kwargs)
        explicit = simulation.explicit
        named = simulation.parse(kwargs.get("device"))
        if named is not None:  # from a function that was imported by name before the simulation began
            explicit, kwargs["device"] = named, simulation.cpu
        inputs = list(_tensors(args, kwargs))
        places = [simulation.place_of(tensor) for tensor in inputs]
        target: torch.device | Undecided | None = explicit or _common_place(func, inputs, places)
        if target == simulation.cpu:
            target = None
        elif target is None and not inputs and explicit is None and func.namespace == "aten":
            target = UNDECIDED
        result = self._run(func, args, kwargs, target)
        fresh = None if all(place is not None for place in places) else {_identity(tensor) for tensor in inputs}
        if target is not None or UNDECIDED in places:
            self._place(result, target or UNDECIDED, fresh)
        return result

    def _run(self, func: Any, args: Any, kwargs: Any, target: Any) -> Any:
        simulated = target is not None and target is not UNDECIDED
        try:
            if simulated and _draws(func):
                with _random_numbers_of(self._simulation.at(target.index).generator):
                    return func(*args, **kwargs)
            return func(*args, **kwargs)
        except RuntimeError as error:
            if simulated and "can't allocate memory" in str(error) and not isinstance(error, OutOfMemoryError):
                # The CPU has no room for what the simulated device may have.
                raise OutOfMemoryError(f"{target} is simulated on the CPU, whose memory is full: {error}") from error
            raise

    def _place(self, result: Any, target: Any, inputs: set[int] | None) -> None:
        simulation = self._simulation
        for tensor in _tensors((result,), {}):
            place = simulation.place_of(tensor)
            undecided = place is UNDECIDED and target is not UNDECIDED
            if undecided or (place is None and not (inputs and _identity(tensor) in inputs)):
                if simulation.kind == "mps" and tensor.dtype == float64:
                    raise TypeError(
                        "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
                        "Please use float32 instead."
                    )
                storage = _storage(tensor)
                if storage is not None:
                    simulation.put(storage, target)


def _tensors(args: Any, kwargs: dict[str, Any]) -> Iterator[Tensor]:
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value, {})


def _common_place(func: Any, inputs: list[Tensor], places: list[Any]) -> torch.device | None:
    """The simulated device of the inputs, None for the CPU. Raises RuntimeError when they lie apart."""
    decided = [(place, tensor) for place, tensor in zip(places, inputs, strict=True) if place is not UNDECIDED]
    simulated = {place for place, _ in decided if place is not None}
    if not simulated:
        return None
    on_cpu = [tensor for place, tensor in decided if place is None and tensor.dim() > 0]
    first: torch.device = next(place for place, _ in decided if place is not None)
    if len(simulated) == 1 and not on_cpu:
        return first
    name = func.overloadpacket.__name__
    if func.namespace != "aten" or name in _MIXED or name.startswith(("_foreach", "_fused", "_amp_foreach")):
        return first
    if name in _INDEXING and len(simulated) == 1:
        if places[0] is not None:
            return first
        raise RuntimeError(
            "indices should be either on cpu or on the same device as the indexed tensor (cpu), "
            f"but they are on {first}"
        )
    others = sorted(str(place) for place in simulated) + (["cpu"] if on_cpu else [])
    raise RuntimeError(
        f"Expected all tensors to be on the same device, but found at least two devices, {others[0]} and {others[1]}! "
        f"(when checking the arguments of {func})"
    )


@functools.cache
def _draws(func: Any) -> bool:
    return Tag.nondeterministic_seeded in func.tags


class _random_numbers_of:  # noqa: N801 - a context, many times a step: a class is quicker than a generator
    """PyTorch draws from this generator in place of its default one."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __enter__(self) -> None:
        _random_lock.acquire()
        self._before = default_generator.get_state()
        default_generator.set_state(self._generator.get_state())

    def __exit__(self, *_: object) -> None:
        self._generator.set_state(default_generator.get_state())
        default_generator.set_state(self._before)
        _random_lock.release()


def _storage(tensor: Tensor) -> Any:
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None


def _identity(tensor: Tensor) -> int:
    storage = _storage(tensor)
    return id(tensor) if storage is None else storage._cdata
