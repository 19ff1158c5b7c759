"""Moving whatever a data loader gives to a device."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

from .choice import resolve_device

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def move_to_device(value: T, device: torch.device | str | None = None, *, non_blocking: bool | None = None) -> T:
    """`value` with every tensor in it on `device`; containers keep their types, all else stays as it is.

    Goes into dicts and other mappings (a tokenizer's BatchEncoding, a model's output), lists, tuples, named tuples,
    sets and dataclasses, and moves whatever else has a `to(device)`. A tensor that occurs twice is moved once.
    Containers are new ones; a torch.nn.Module is moved in place, as PyTorch does.

    Without `non_blocking` a copy is asynchronous where that helps: from pinned memory to CUDA.
    """
    return _Mover(resolve_device(device), non_blocking).move(value)  # type: ignore[no-any-return]


class _Mover:
    def __init__(self, device: torch.device, non_blocking: bool | None) -> None:  # noqa: FBT001
        import torch

        self._device = device
        self._non_blocking = non_blocking
        self._tensor = torch.Tensor
        # The originals are kept as well: an id is given again once its object is gone.
        self._moved: dict[int, tuple[Any, Any]] = {}

    def move(self, value: Any) -> Any:
        if value is None or isinstance(value, str | bytes | int | float | complex | type):
            return value
        if id(value) not in self._moved:
            self._moved[id(value)] = (value, self._move(value))
        return self._moved[id(value)][1]

    def _move(self, value: Any) -> Any:
        if isinstance(value, self._tensor):
            return value.to(self._device, non_blocking=self._asynchronous(value))
        if isinstance(value, Mapping):
            return self._mapping(value)
        to = getattr(value, "to", None)
        if isinstance(value, tuple) and callable(to):
            return to(self._device)  # a PackedSequence keeps a part of itself on the CPU
        if isinstance(value, tuple | list | set | frozenset):
            return self._collection(value)
        if dataclasses.is_dataclass(value):
            return self._dataclass(value)
        return to(self._device) if callable(to) else value

    def _asynchronous(self, tensor: torch.Tensor) -> bool:
        if self._non_blocking is not None:
            return self._non_blocking
        return self._device.type == "cuda" and tensor.device.type == "cpu" and tensor.is_pinned()

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        items = {key: self.move(item) for key, item in value.items()}
        if not isinstance(value, MutableMapping):
            return items
        moved = copy.copy(value)
        for key, item in items.items():
            moved[key] = item
        return moved

    def _collection(self, value: Any) -> Any:
        items = [self.move(item) for item in value]
        if not isinstance(value, list):
            # A named tuple takes its fields one by one.
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        moved = copy.copy(value)
        moved[:] = items
        return moved

    def _dataclass(self, value: Any) -> Any:
        moved = copy.copy(value)
        for field in dataclasses.fields(value):
            if hasattr(value, field.name):
                # Past __setattr__, which a frozen one refuses.
                object.__setattr__(moved, field.name, self.move(getattr(value, field.name)))
        return moved
