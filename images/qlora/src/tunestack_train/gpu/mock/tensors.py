"""Tensors that say where they lie and can be moved, and functions that make them there."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._device import DeviceContext, _device_constructors

if TYPE_CHECKING:
    from collections.abc import Callable

    from .patches import Patches
    from .simulation import Simulation

_ADOPTING = ("as_tensor", "asarray")  # they give back what they are given where they can


def simulate_tensors(simulation: Simulation, patches: Patches) -> None:
    _properties(simulation, patches)
    _transfers(simulation, patches)
    _host_only(simulation, patches)
    _methods_that_make(simulation, patches)
    _functions_that_make(simulation, patches)


def _properties(simulation: Simulation, patches: Patches) -> None:
    real_device, real_is_cpu, real_kind = (
        getattr(torch.Tensor, name) for name in ("device", "is_cpu", f"is_{simulation.kind}")
    )

    def device(self: torch.Tensor) -> torch.device:
        place: torch.device = simulation.device_of(self) or real_device.__get__(self)
        return place

    def is_cpu(self: torch.Tensor) -> bool:
        return simulation.device_of(self) is None and bool(real_is_cpu.__get__(self))

    def is_kind(self: torch.Tensor) -> bool:
        return simulation.device_of(self) is not None or bool(real_kind.__get__(self))

    patches.replace(torch.Tensor, "device", property(device))
    patches.replace(torch.Tensor, "is_cpu", property(is_cpu))
    patches.replace(torch.Tensor, f"is_{simulation.kind}", property(is_kind))

    def get_device(self: torch.Tensor) -> int:
        place = simulation.device_of(self)
        return int(real_get_device(self)) if place is None else place.index

    real_get_device = patches.replace(torch.Tensor, "get_device", get_device)
    patches.replace(torch, "get_device", lambda tensor: tensor.get_device())


class _Transfer(torch.autograd.Function):
    """A copy on another device; its gradient goes back to where the tensor was."""

    @staticmethod
    def forward(context: Any, tensor: torch.Tensor, place: torch.device, copy: Callable[..., torch.Tensor]) -> Any:
        context.before, context.copy = tensor.device, copy
        return copy(tensor, place)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        return gradients[0].to(context.before), None, None


def _transfers(simulation: Simulation, patches: Patches) -> None:
    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        device, dtype, options = _what_to(args, kwargs)
        place = simulation.parse(device)
        if place is None and (device is None or torch.device(device).type != "cpu"):
            return real_to(self, *args, **kwargs)  # type: ignore[no-any-return]
        target = place or simulation.cpu
        dtype = dtype or self.dtype
        if target == self.device:
            return real_to(self, dtype, **options)  # type: ignore[no-any-return]

        def copy(tensor: torch.Tensor, target: torch.device) -> torch.Tensor:
            with simulation.placing(target):
                return real_to(tensor, dtype, **{**options, "copy": True})  # type: ignore[no-any-return]

        if torch.is_grad_enabled() and self.requires_grad:
            return _Transfer.apply(self, target, copy)  # type: ignore[no-any-return, no-untyped-call]
        return copy(self, target)

    def cuda(self: torch.Tensor, device: Any = None, non_blocking: bool = False, **options: Any) -> torch.Tensor:  # noqa: ARG001, FBT001, FBT002 - PyTorch's signature
        return to(self, simulation.of(device).device, **options)

    real_to = patches.replace(torch.Tensor, "to", to)
    patches.replace(torch.Tensor, "cpu", lambda self, **options: to(self, simulation.cpu, **options))
    if simulation.kind == "cuda":
        patches.replace(torch.Tensor, "cuda", cuda)


def _what_to(args: Any, kwargs: dict[str, Any]) -> tuple[Any, torch.dtype | None, dict[str, Any]]:
    """Device, dtype and the other options of a call of `Tensor.to`, in whichever of its three forms."""
    options = dict(kwargs)
    names: tuple[str, ...] = ("non_blocking", "copy")
    first = args[0] if args else options.pop("other", None)
    if isinstance(first, torch.Tensor):
        options.update(device=first.device, dtype=first.dtype)
    elif isinstance(first, torch.dtype):
        options["dtype"] = first
    elif args:
        options["device"] = first
        names = ("dtype", *names)
    options.update(zip(names, args[1:], strict=False))
    return options.pop("device", None), options.pop("dtype", None), options


def _host_only(simulation: Simulation, patches: Patches) -> None:
    def numpy(self: torch.Tensor, *, force: bool = False) -> Any:
        place = simulation.device_of(self)
        if place is not None and not force:
            raise TypeError(
                f"can't convert {place} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
                "memory first."
            )
        return real_numpy(self, force=force)

    real_numpy = patches.replace(torch.Tensor, "numpy", numpy)
    if simulation.kind != "cuda":
        return

    def pin_memory(self: torch.Tensor, device: Any = None) -> torch.Tensor:  # noqa: ARG001 - PyTorch's signature
        if simulation.device_of(self) is not None:
            raise RuntimeError(f"cannot pin '{self.device}' tensors: only dense CPU tensors can be pinned")
        if simulation.pinned(self):
            return self
        with simulation.placing(simulation.cpu):
            pinned = self.clone()
        simulation.pin(pinned)
        return pinned

    patches.replace(torch.Tensor, "pin_memory", pin_memory)
    patches.replace(torch.Tensor, "is_pinned", lambda self, device=None: simulation.pinned(self))  # noqa: ARG005
    patches.replace(torch.Tensor, "record_stream", lambda self, stream: None)  # noqa: ARG005


def _methods_that_make(simulation: Simulation, patches: Patches) -> None:
    def replace(name: str) -> None:
        @functools.wraps(getattr(torch.Tensor, name))
        def method(self: torch.Tensor, *args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
            return _make(
                simulation, functools.partial(real, self), args, kwargs, self.device if device is None else device
            )

        real = patches.replace(torch.Tensor, name, method)

    for name in ("new_empty", "new_empty_strided", "new_full", "new_ones", "new_tensor", "new_zeros"):
        replace(name)


def _functions_that_make(simulation: Simulation, patches: Patches) -> None:
    def replace(owner: Any, name: str) -> None:
        @functools.wraps(getattr(owner, name))
        def function(*args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
            source = args[0] if args and isinstance(args[0], torch.Tensor) else None
            if name in _ADOPTING:
                adopted: torch.Tensor = real(*args, **kwargs)
                place = _default_device() if device is None and source is None else device
                return adopted if place is None else adopted.to(place)
            if device is None:
                device = _default_device() if source is None or name in _SIZED else source.device
            return _make(simulation, real, args, kwargs, device or simulation.cpu)

        real = patches.replace(owner, name, function)

    makers = _device_constructors()  # cached there, and therefore asked for before anything is replaced
    for owner in (torch, torch.fft):
        for name in [name for name, value in vars(owner).items() if _is_in(value, makers)]:
            replace(owner, name)
    for name in [name for name in vars(torch) if name.endswith("_like") and not name.startswith("_")]:
        replace(torch, name)


_SIZED = frozenset({"arange", "eye", "linspace", "logspace", "full", "range"})  # a tensor here is a number


def _is_in(value: Any, makers: Any) -> bool:
    return callable(value) and getattr(value, "__hash__", None) is not None and value in makers


def _make(simulation: Simulation, real: Any, args: Any, kwargs: dict[str, Any], device: Any) -> torch.Tensor:
    place = simulation.parse(device)
    pinned = kwargs.pop("pin_memory", False)
    own = simulation.cpu if place is not None else device
    with simulation.placing(place or simulation.cpu):
        made: torch.Tensor = real(*args, device=own, **kwargs)
    if place is not None and simulation.place_of(made) is None:
        # torch.tensor fills memory before PyTorch shows it to anybody.
        simulation.put(made.untyped_storage(), place)
    if pinned and simulation.kind == "cuda":
        if place is not None:
            raise RuntimeError("Only dense CPU tensors can be pinned")
        simulation.pin(made)
    return made


def _default_device() -> torch.device | None:
    """The device of `with torch.device(…)` or torch.set_default_device; None where there is neither."""
    if not torch._C._len_torch_function_stack():
        return None
    stack = torch.overrides._get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    return next((mode.device for mode in reversed(stack) if isinstance(mode, DeviceContext)), None)
