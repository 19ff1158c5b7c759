"""Liger's kernels: norms, activations and position embeddings each in one pass over memory, written in Triton."""

import importlib.util
from typing import TYPE_CHECKING

from tunestack_train.compiler import missing_for_kernels
from tunestack_train.device import Device
from tunestack_train.errors import SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def against_liger(model_type: str, device: Device) -> str | None:
    """Why Liger's kernels cannot be used for models of this type on this device; None when they can."""
    if device.kind != "cuda":
        return "Liger's kernels run on CUDA alone"
    if importlib.util.find_spec("liger_kernel") is None:
        return "the package liger-kernel is not installed"
    missing = missing_for_kernels()
    if missing:
        return f"Liger's kernels are compiled here, and {missing}"
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    return None if model_type in MODEL_TYPE_TO_APPLY_LIGER_FN else f"Liger has no kernels for {model_type}"


def use_liger(model: "PreTrainedModel", wanted: str, device: Device) -> str:
    """Gives the model Liger's kernels where `wanted` (auto, on, off) asks for them; returns in words what came of it.

    Without Liger's loss: the one in chunks takes its place (see `loss`). Raises SettingsError when they are set to on
    and cannot be had.
    """
    if wanted == "off":
        return "off"
    reason = against_liger(str(model.config.model_type), device)
    if reason is not None:
        if wanted == "on":
            raise SettingsError(f"liger = on: {reason}", "leave it at auto, which takes them where they can be had")
        return f"off: {reason}"
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
    return "on"
