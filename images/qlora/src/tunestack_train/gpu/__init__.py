"""Devices for PyTorch code, the same on CUDA, MPS and a CPU: choose one, use it well, measure what it does.

    from tunestack_train.gpu import GPUConfig, get_gpu_manager

    gpu = get_gpu_manager(GPUConfig(amp_dtype="auto"))
    model = model.to(gpu.device)
    with gpu.autocast():
        loss = model(**gpu.move(batch)).loss

It needs PyTorch alone, and imports it when something is asked for. The folder can be copied into another project as it
is. `tunestack_train.gpu.mock` simulates a device that a machine lacks. The guide is docs/gpu.md.
"""

from .batch_size import BatchTrial, get_optimal_batch_size
from .choice import DeviceType, choose_device
from .config import GPUConfig
from .errors import DeviceUnavailableError, GPUConfigError
from .inference import optimize_model_for_inference
from .info import GPUInfo, get_device_info, list_devices
from .manager import GPUManager, get_gpu_manager, setup_device
from .memory import MemoryFigures, empty_cache, gpu_memory_guard, is_out_of_memory, memory_figures, synchronize
from .precision import get_amp_dtype, supports_amp
from .profiling import Profile, profile_model
from .transfer import move_to_device

__all__ = [
    "BatchTrial",
    "DeviceType",
    "DeviceUnavailableError",
    "GPUConfig",
    "GPUConfigError",
    "GPUInfo",
    "GPUManager",
    "MemoryFigures",
    "Profile",
    "choose_device",
    "empty_cache",
    "get_amp_dtype",
    "get_device_info",
    "get_gpu_manager",
    "get_optimal_batch_size",
    "gpu_memory_guard",
    "is_out_of_memory",
    "list_devices",
    "memory_figures",
    "move_to_device",
    "optimize_model_for_inference",
    "profile_model",
    "setup_device",
    "supports_amp",
    "synchronize",
]
