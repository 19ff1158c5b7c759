"""torch.mps over a simulated device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .cuda import Event

if TYPE_CHECKING:
    from .patches import Patches
    from .simulation import Simulation


def simulate_mps_module(simulation: Simulation, patches: Patches) -> None:
    (device,) = simulation.devices
    generator = device.generator

    def is_macos_or_newer(major: int, minor: int) -> bool:
        # bf16 came to MPS with macOS 14.
        return (major, minor) <= ((14, 0) if device.specification.has_bf16 else (13, 3))

    def set_fraction(fraction: float) -> None:
        if not 0 <= fraction <= 2:
            raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~2")
        device.fraction = min(fraction, 1.0)

    def empty_cache() -> None:
        device.peak = device.allocated  # what the driver has given is then what tensors hold

    functions: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "synchronize": lambda: None,
        "empty_cache": empty_cache,
        "current_allocated_memory": lambda: device.allocated,
        "driver_allocated_memory": lambda: device.peak,
        "recommended_max_memory": lambda: device.specification.total_memory - device.specification.used_by_others,
        "set_per_process_memory_fraction": set_fraction,
        "manual_seed": lambda seed: generator.manual_seed(int(seed)) and None,
        "seed": lambda: generator.seed() and None,
        "get_rng_state": lambda device="mps": generator.get_state(),  # noqa: ARG005
        "set_rng_state": lambda new_state, device="mps": generator.set_state(new_state) and None,  # noqa: ARG005
    }

    for name, function in functions.items():
        patches.replace(torch.mps, name, function)
    patches.replace(torch.mps.event, "Event", Event)
    for name, function in (
        ("is_available", lambda: True),
        ("is_built", lambda: True),
        ("is_macos_or_newer", is_macos_or_newer),
        ("is_macos13_or_newer", lambda minor=0: is_macos_or_newer(13, minor)),
    ):
        patches.replace(torch.backends.mps, name, function)
