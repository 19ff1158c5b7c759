"""One object for a device: chosen, set up, and used through a training."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .batch_size import get_optimal_batch_size
from .choice import choose_device
from .config import GPUConfig
from .inference import optimize_model_for_inference
from .info import GPUInfo, get_device_info
from .memory import MemoryFigures, empty_cache, gpu_memory_guard, memory_figures, synchronize
from .precision import apply_math_settings, get_amp_dtype, supports_amp
from .profiling import Profile, profile_model
from .transfer import T, move_to_device

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import torch

_lock = threading.Lock()
_managers: dict[tuple[GPUConfig, int, bool], GPUManager] = {}


def setup_device(config: GPUConfig | str | None = None) -> torch.device:
    """Chooses a device by `config` (or by its `device` alone), makes it the current one, and sets up TF32 and cuDNN.

    Several GPUs: the one with the most free memory; under torchrun the one of LOCAL_RANK.
    Raises DeviceUnavailableError.
    """
    return GPUManager(_config(config)).device


def get_gpu_manager(config: GPUConfig | str | None = None) -> GPUManager:
    """The manager of this process for `config`: the same one for an equal config while the devices are."""
    import torch

    given = _config(config)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    key = (given, gpus, torch.backends.mps.is_available())  # simulated devices come and go
    with _lock:
        if key not in _managers:
            _managers[key] = GPUManager(given)
        return _managers[key]


def _config(config: GPUConfig | str | None) -> GPUConfig:
    return config if isinstance(config, GPUConfig) else GPUConfig(device=config or "auto")


class GPUManager:
    """A device, with mixed precision and memory kept as its config says. Use one for the whole of a training."""

    def __init__(self, config: GPUConfig | None = None) -> None:
        import torch

        self.config = config or GPUConfig()
        self.device: torch.device = choose_device(self.config.device)
        self._steps = 0
        apply_math_settings(self.config)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        fraction = self.config.memory_fraction
        if fraction is not None and self.device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(fraction, self.device)
        elif fraction is not None and self.device.type == "mps":
            torch.mps.set_per_process_memory_fraction(fraction)

    @property
    def info(self) -> GPUInfo:
        return get_device_info(self.device)

    @property
    def amp_enabled(self) -> bool:
        return self.config.amp and supports_amp(self.device)

    @property
    def amp_dtype(self) -> torch.dtype:
        """The dtype of `autocast`: the config's, or what the hardware has."""
        import torch

        named = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return named.get(self.config.amp_dtype) or get_amp_dtype(self.device)

    def autocast(self) -> torch.autocast:
        """The context for a forward pass and its loss; does nothing where mixed precision is off."""
        import torch

        return torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_enabled)

    def grad_scaler(self) -> torch.amp.grad_scaler.GradScaler:
        """A scaler of losses, which fp16 needs; passes everything through for bf16 and float32."""
        import torch

        enabled = self.amp_enabled and self.amp_dtype == torch.float16
        return torch.amp.grad_scaler.GradScaler(self.device.type, enabled=enabled)

    def step_done(self) -> None:
        """Counts a step, and empties the cache after each `empty_cache_interval` of them."""
        self._steps += 1
        interval = self.config.empty_cache_interval
        if interval and self._steps % interval == 0:
            self.empty_cache()

    def move(self, value: T, *, non_blocking: bool | None = None) -> T:
        return move_to_device(value, self.device, non_blocking=non_blocking)

    def synchronize(self) -> None:
        synchronize(self.device)

    def empty_cache(self) -> None:
        empty_cache(self.device)

    def memory(self) -> MemoryFigures:
        return memory_figures(self.device)

    def memory_guard(self, *, required: int = 0) -> AbstractContextManager[MemoryFigures]:
        return gpu_memory_guard(self.device, required=required)

    def optimize_for_inference(self, model: torch.nn.Module, **options: Any) -> torch.nn.Module:
        """`optimize_model_for_inference` on this device; `options` are its own."""
        return optimize_model_for_inference(model, self.device, **options)

    def optimal_batch_size(self, model: torch.nn.Module, make_batch: Callable[[int], Any], **options: Any) -> int:
        """`get_optimal_batch_size` on this device, within `autocast`; `options` are its own."""
        return get_optimal_batch_size(model, make_batch, self.device, autocast=self.autocast, **options)

    def profile(self, model: torch.nn.Module, inputs: Any, **options: Any) -> Profile:
        """`profile_model` on this device, within `autocast`; `options` are its own."""
        return profile_model(model, inputs, self.device, autocast=self.autocast, **options)
