"""A trained model made ready to answer fast."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from .choice import resolve_device
from .info import device_of
from .precision import get_amp_dtype, supports_amp
from .steps import inference_step, tensors_in
from .transfer import move_to_device

if TYPE_CHECKING:
    import torch

# Largest difference of an output that is put down to precision, as a share of the largest value that was given before.
_TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}


def optimize_model_for_inference(
    model: torch.nn.Module,
    device: torch.device | str | None = None,
    *,
    dtype: torch.dtype | None = None,
    fuse: bool = True,
    channels_last: bool = False,
    compiled: bool = False,
    check_inputs: Any = None,
) -> torch.nn.Module:
    """Changes `model` in place for inference on `device` and returns it: evaluation mode, no gradients, less precision.

    `dtype` is, unless given, what `get_amp_dtype` says on a GPU, and unchanged on a CPU; a hook casts floating-point
    inputs to it. `fuse` puts a batch normalisation into the convolution or linear layer right before it in a
    torch.nn.Sequential. `channels_last` lays images out as convolutions on recent GPUs read them. `compiled` returns
    the model through torch.compile.

    With `check_inputs` the outputs are compared with those of before. Raises ValueError, and the model must not be
    used, when they differ by more than the precision explains.
    """
    import torch

    target = device_of(model) if device is None else resolve_device(device)
    model.to(target).eval().requires_grad_(requires_grad=False)
    before = _outputs(model, check_inputs, target)
    if fuse:
        _fuse_normalisations(model)
    precision = dtype or (get_amp_dtype(target) if target.type != "cpu" and supports_amp(target) else None)
    if precision is not None:
        model.to(precision)
        model.register_forward_pre_hook(_cast_to(precision), with_kwargs=True)
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _compare(before, _outputs(model, check_inputs, target), precision)
    return torch.compile(model) if compiled else model  # type: ignore[return-value]


def _cast_to(dtype: torch.dtype) -> Any:
    def hook(
        _: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        import torch

        def cast(value: Any) -> Any:
            return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

        return tuple(cast(value) for value in args), {name: cast(value) for name, value in kwargs.items()}

    return hook


def _fuse_normalisations(model: torch.nn.Module) -> None:
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    for sequence in [module for module in model.modules() if type(module) is nn.Sequential]:
        layers = list(sequence.named_children())
        for (name, layer), (norm_name, norm) in itertools.pairwise(layers):
            if type(norm) not in norms or not norm.track_running_stats:
                continue
            if type(layer) in convolutions:
                fused: nn.Module = fuse_conv_bn_eval(layer, norm)  # type: ignore[type-var, arg-type]
            elif type(layer) is nn.Linear and type(norm) is nn.BatchNorm1d:
                fused = fuse_linear_bn_eval(layer, norm)
            else:
                continue
            setattr(sequence, name, fused.requires_grad_(requires_grad=False))
            setattr(sequence, norm_name, nn.Identity())


def _outputs(model: torch.nn.Module, inputs: Any, device: torch.device) -> list[torch.Tensor]:
    if inputs is None:
        return []
    outputs = tensors_in(inference_step(model, move_to_device(inputs, device)))
    return [tensor.float() for tensor in outputs if tensor.is_floating_point()]


def _compare(before: list[torch.Tensor], after: list[torch.Tensor], precision: torch.dtype | None) -> None:
    name = str(precision or "torch.float32").removeprefix("torch.")
    bound = _TOLERANCE.get(name, 5e-2)
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        difference = float((old - new).abs().max() / old.abs().max().clamp_min(1e-12)) if old.numel() else 0.0
        if not difference <= bound:  # a NaN is above every bound
            raise ValueError(
                f"output {number} of the optimised model differs by {difference:.2%} of its largest value, and {name} "
                f"explains {bound:.2%}: give dtype=torch.float32 or fuse=False, or look at check_inputs; "
                "this model has been changed and must not be used"
            )
