"""The device that a run trains on, by tunestack_train.gpu, and how libraries are told to behave."""

import contextlib
import gc
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunestack_train.compiler import missing_for_kernels
from tunestack_train.errors import SettingsError
from tunestack_train.gpu import DeviceUnavailableError, get_device_info, memory_figures, setup_device


@dataclass(frozen=True)
class Device:
    """`kind` is PyTorch's name of the type, `name` the hardware's, for people. Memory in bytes, None for a CPU."""

    kind: str
    name: str
    total_memory: int | None
    index: int | None = None
    """Number of the GPU where there can be several: the process's own under torchrun (LOCAL_RANK)."""

    @property
    def torch_name(self) -> str:
        """What PyTorch calls it: `cuda:1`, `mps`, `cpu`."""
        return self.kind if self.index is None else f"{self.kind}:{self.index}"


def choose_device(wanted: str, precision: str) -> Device:
    """The device for `wanted` (auto, cuda, mps, cpu), set up. Raises SettingsError when it is not there or too old."""
    try:
        info = get_device_info(setup_device(wanted))
    except DeviceUnavailableError as error:
        raise SettingsError(
            str(error), "leave device at auto, or run `npm run doctor` to see what keeps the GPU from being found"
        ) from error
    if info.compute_capability and precision == "bf16" and not info.supports_bf16:
        major, minor = info.compute_capability
        raise SettingsError(
            f"precision = bf16: the {info.name} has no bf16 (it came with compute capability 8.0, "
            f"this is {major}.{minor})",
            "give --set precision=fp16",
        )
    memory = None if info.device_type == "cpu" else info.total_memory
    return Device(info.device_type.value, info.name, memory, info.index)


def memory_in_use(device: Device) -> int | None:
    """Most bytes of GPU memory that tensors have taken so far (on MPS: take now); None where there is no GPU."""
    if device.kind == "cpu":
        return None
    figures = memory_figures(device.torch_name)
    return figures.peak_allocated if figures.peak_allocated is not None else figures.allocated


def set_up_libraries() -> None:
    """Settings that libraries read from the environment when they are imported. Call before importing torch.

    transformers and trl import wandb wherever it is installed, which takes more than a second: they are told that it is
    not there. The log that wants it takes that back.

    Threads that spin take ten times as long on a busy machine; and what libraries say of themselves would hide what the
    run says. bitsandbytes has PyTorch compile functions: where there is no C compiler, a second is lost on loading what
    compiles them.
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
    if missing_for_kernels() is not None:
        quiet["TORCHDYNAMO_DISABLE"] = "1"
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    # In a container the home folder cannot be written.
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        os.environ.setdefault(name, str(Path(tempfile.gettempdir()) / "wandb"))
    sys.modules.setdefault("wandb", None)  # type: ignore[arg-type] # None: what Python itself notes for "not there"
    # Renamings that their libraries announce, each at its own time, and a fast path that needs a download.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft|accelerate)\..*")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Collects no garbage meanwhile: what an import makes stays, and looking through it takes a sixth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def silence_progress_bars() -> None:
    """Bars of libraries that would be mistaken for the run's own. Call once they are imported."""
    import datasets
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    datasets.disable_progress_bars()
