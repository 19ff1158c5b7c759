"""Settings of a GPUManager, checked all at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .errors import GPUConfigError

_DEVICE: Final = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
AMP_DTYPES: Final = ("auto", "bf16", "fp16")


@dataclass(frozen=True, kw_only=True)
class GPUConfig:
    """How a device is chosen and set up. Raises GPUConfigError with every problem when a value cannot be."""

    device: str = "auto"
    """`auto` (CUDA, then MPS, then the CPU), `cuda` (the GPU with the most free memory), `cuda:1`, `mps` or `cpu`."""

    amp: bool = True
    """Automatic mixed precision where the device gains by it."""

    amp_dtype: str = "auto"
    """`auto` (bf16 where the hardware has it, else fp16), `bf16` or `fp16`."""

    allow_tf32: bool = True
    """TF32 in float32 matrix products and convolutions: about three decimal digits, much faster; compute
    capability 8.0 and later."""

    cudnn_benchmark: bool = False
    """Lets cuDNN try its algorithms for each new shape. Pays where shapes stay the same."""

    cudnn_deterministic: bool = False
    """Only algorithms whose results are the same each time."""

    empty_cache_interval: int = 0
    """Steps after which `GPUManager.step_done` returns cached memory to the device; 0 is never."""

    memory_fraction: float | None = None
    """Share of the GPU's memory that this process may take, above 0 and at most 1. CUDA and MPS."""

    def __post_init__(self) -> None:
        problems = [*_wrong_types(self), *_wrong_values(self)]
        if problems:
            raise GPUConfigError(problems)


def _wrong_types(config: GPUConfig) -> list[str]:
    names = ("amp", "allow_tf32", "cudnn_benchmark", "cudnn_deterministic")
    values = {name: getattr(config, name) for name in names}
    return [f"{name} = {value!r}: give True or False" for name, value in values.items() if not isinstance(value, bool)]


def _wrong_values(config: GPUConfig) -> list[str]:
    problems = []
    if not (isinstance(config.device, str) and _DEVICE.fullmatch(config.device)):
        problems.append(f"device = {config.device!r}: give auto, cuda, cuda:0, mps or cpu")
    if config.amp_dtype not in AMP_DTYPES:
        problems.append(f"amp_dtype = {config.amp_dtype!r}: give auto, bf16 or fp16")
    interval = config.empty_cache_interval
    if not isinstance(interval, int) or isinstance(interval, bool) or interval < 0:
        problems.append(f"empty_cache_interval = {interval!r}: give a whole number of steps, 0 for never")
    fraction = config.memory_fraction
    if fraction is not None and not (_is_number(fraction) and 0 < fraction <= 1):
        problems.append(f"memory_fraction = {fraction!r}: give a number above 0 and at most 1, or None")
    if config.cudnn_benchmark is True and config.cudnn_deterministic is True:
        problems.append(
            "cudnn_benchmark = True and cudnn_deterministic = True: which algorithm wins a benchmark differs between "
            "runs; turn one of them off"
        )
    return problems


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
