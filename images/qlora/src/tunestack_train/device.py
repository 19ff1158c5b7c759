"""The device that a run trains on: CUDA, then MPS, then the CPU."""

import logging
import os
import sys
import warnings
from dataclasses import dataclass

from tunestack_train.errors import SettingsError


@dataclass(frozen=True)
class Device:
    """`kind` is PyTorch's name of the type, `name` the hardware's, for people. Memory in bytes, None for a CPU."""

    kind: str
    name: str
    total_memory: int | None


def choose_device(wanted: str, precision: str) -> Device:
    """The device for `wanted` (auto, cuda, mps, cpu). Raises SettingsError when it is not there or too old."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(name for name, there in available.items() if there) if wanted == "auto" else wanted
    if not available[kind]:
        raise SettingsError(
            f"device = {wanted}: PyTorch {torch.__version__} finds no such device here",
            "leave device at auto, or run `npm run doctor` to see what keeps the GPU from being found",
        )
    if kind == "cpu":
        return Device("cpu", f"CPU, {torch.get_num_threads()} threads", None)
    if kind == "mps":
        return Device("mps", "Apple GPU", torch.mps.recommended_max_memory())
    properties = torch.cuda.get_device_properties(0)
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise SettingsError(
            f"precision = bf16: the {properties.name} has no bf16 (it came with compute capability 8.0, "
            f"this is {properties.major}.{properties.minor})",
            "give --set precision=fp16",
        )
    return Device("cuda", properties.name, properties.total_memory)


def memory_in_use(device: Device) -> int | None:
    """Most bytes of GPU memory that tensors have taken so far; None where there is no GPU."""
    import torch

    if device.kind == "cuda":
        return torch.cuda.max_memory_allocated()
    if device.kind == "mps":
        return torch.mps.current_allocated_memory()
    return None


def set_up_libraries(*, wandb: bool = False) -> None:
    """Settings that libraries read from the environment when they are imported. Call before importing torch.

    transformers and trl import wandb wherever it is installed, which takes more than a second; unless it is wanted they
    are told that it is not there.

    Threads that spin take ten times as long on a busy machine; and what libraries say of themselves would hide what the
    run says.
    """
    quiet = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "0" if sys.stderr.isatty() else "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "DATASETS_VERBOSITY": "error",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "BITSANDBYTES_NOWELCOME": "1",
        "WANDB_SILENT": "true",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    if not wandb:
        sys.modules.setdefault("wandb", None)  # type: ignore[arg-type] # None: what Python itself notes for "not there"
    # Renamings that their libraries announce, each at its own time, and a fast path that needs a download.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate)\..*")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def silence_progress_bars() -> None:
    """Bars of libraries that would be mistaken for the run's own. Call once they are imported."""
    import datasets
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    datasets.disable_progress_bars()
