"""Storages: copies stay where they are, files remember the device, and map_location leads to a simulated one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .patches import Patches
    from .simulation import Simulation


def simulate_storages(simulation: Simulation, patches: Patches) -> None:
    def copy_to(storage: Any, place: torch.device | None) -> Any:
        copied = real_clone(storage)
        simulation.put(copied, place)
        return copied

    def clone(self: Any) -> Any:
        return copy_to(self, simulation.device_of_storage(self))

    def to(self: Any, *, device: Any, non_blocking: bool = False) -> Any:
        place = simulation.parse(device)
        if place is None and simulation.device_of_storage(self) is None:
            return real_to(self, device=device, non_blocking=non_blocking)
        return self if place == simulation.device_of_storage(self) else copy_to(self, place)

    def cpu(self: Any) -> Any:
        return to(self, device="cpu")

    real_clone = patches.replace(torch.UntypedStorage, "clone", clone)
    real_to = patches.replace(torch.UntypedStorage, "to", to)
    patches.replace(torch.UntypedStorage, "cpu", cpu)
    if simulation.kind == "cuda":
        patches.replace(
            torch.UntypedStorage,
            "cuda",
            lambda self, device=None, non_blocking=False: to(self, device=simulation.of(device).device),  # noqa: ARG005
        )

    def tag(storage: Any) -> str | None:
        place = simulation.device_of_storage(storage)
        return None if place is None else str(place)

    def restore(storage: Any, location: str) -> Any:
        if not location.startswith(simulation.kind):
            return None
        return copy_to(storage, simulation.parse(location))

    # PyTorch asks them by the first number; all of its own are higher.
    patches.replace(
        torch.serialization, "_package_registry", [(0, tag, restore), *torch.serialization._package_registry]
    )
