"""Mixed precision and what the hardware has for it; TF32 and cuDNN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .choice import resolve_device

if TYPE_CHECKING:
    import torch

    from .config import GPUConfig


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware itself computes in bf16.

    CUDA: compute capability 8.0 and later. MPS: macOS 14 and later. CPU: what oneDNN has kernels for.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def get_amp_dtype(device: torch.device | str | None = None) -> torch.dtype:
    """`torch.bfloat16` where the hardware has it, else `torch.float16`; on a CPU always bfloat16.

    A CPU that lacks bf16 lacks fp16 too, and bf16 needs no loss scaling.
    """
    import torch

    given = resolve_device(device)
    return torch.bfloat16 if given.type == "cpu" or has_bf16(given) else torch.float16


def supports_amp(device: torch.device | str | None = None) -> bool:
    """Whether mixed precision pays on `device`: on GPUs always, on a CPU where it has bf16."""
    import torch

    given = resolve_device(device)
    if not torch.amp.autocast_mode.is_autocast_available(given.type):
        return False
    return given.type != "cpu" or has_bf16(given)


def apply_math_settings(config: GPUConfig) -> None:
    """Sets TF32 and cuDNN for this process as `config` says. Without an NVIDIA GPU they have no effect."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = config.allow_tf32
    torch.backends.cudnn.allow_tf32 = config.allow_tf32
    torch.backends.cudnn.benchmark = config.cudnn_benchmark
    torch.backends.cudnn.deterministic = config.cudnn_deterministic
