"""One call of a model: how inputs are handed to it, and what a training step of a model unknown to us is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Step = Callable[["torch.nn.Module", Any], Any]
Autocast = Callable[[], "contextlib.AbstractContextManager[Any]"]


def call(model: torch.nn.Module, inputs: Any) -> Any:
    """`model(**inputs)` for a mapping, `model(*inputs)` for a tuple or list, else `model(inputs)`."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple | list):
        return model(*inputs)
    return model(inputs)


def inference_step(model: torch.nn.Module, inputs: Any) -> Any:
    import torch

    with torch.inference_mode():
        return call(model, inputs)


def training_step(model: torch.nn.Module, inputs: Any) -> None:
    """Forward and backward. The loss is the output's `loss`, or else the mean of all floating-point outputs."""
    output = call(model, inputs)
    loss = getattr(output, "loss", None)
    if loss is None:
        means = [tensor.float().mean() for tensor in tensors_in(output) if tensor.is_floating_point()]
        if not means:
            raise TypeError(
                f"the model gives no loss and no floating-point tensor but {type(output).__name__}: give step"
            )
        loss = sum(means[1:], start=means[0])
    loss.backward()


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested mappings, lists and tuples, in order."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_in(item)


def batch_size_of(inputs: Any) -> int:
    """Length of the first dimension of the first tensor that has one. Raises ValueError where there is none."""
    for tensor in tensors_in(inputs):
        if tensor.dim() > 0:
            return tensor.shape[0]
    raise ValueError("the inputs hold no tensor whose first dimension could be the batch: give batch_size")


@contextlib.contextmanager
def borrowed(model: torch.nn.Module, *, training: bool) -> Iterator[None]:
    """The model in training or evaluation mode; mode, gradients, buffers and random numbers are put back afterwards."""
    import torch

    from .info import device_of

    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()] if training else []
    device = device_of(model)
    model.train(training)
    try:
        with torch.random.fork_rng([device.index or 0] if device.type != "cpu" else [], device_type=_random(device)):
            for parameter, _ in gradients:
                parameter.grad = None
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def _random(device: torch.device) -> str:
    # fork_rng wants a device type that has random states of its own, also where its list of devices is empty.
    return "cuda" if device.type == "cpu" else device.type
