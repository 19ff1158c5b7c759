"""The base model shared out over the processes of a run (FSDP): each keeps a part of every decoder layer's weights.

Only what is frozen is shared out. A layer's weights are gathered when it computes, in the forward pass and again in the
backward pass, and freed after it. What is trained stays whole in each process and its gradients are averaged as ever
(DDP), so optimiser, checkpoints and export are those of a run that shares nothing out. Embeddings, output layer, norms
and the constants of 4-bit weights stay whole too.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tunestack_train.device import Device
from tunestack_train.errors import SettingsError
from tunestack_train.processes import Processes
from tunestack_train.units import show_size

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FSDP: Final = "fsdp"
"""The value of the setting `distributed` that shares the base model out."""

_HOW_TO_LAUNCH: Final = "torchrun, or `accelerate launch --multi_gpu`, one process for each GPU"
# As accelerate's launcher tells its processes.
_REFUSED: Final[Mapping[str, str]] = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed"}


def require_possible(distributed: str, processes: Processes, environment: Mapping[str, str] = os.environ) -> None:
    """Raises SettingsError when the launcher wants to share the model out itself, or there is nobody to share with."""
    for variable, what in _REFUSED.items():
        value = environment.get(variable, "")
        if value.lower() in ("1", "true", "yes", "y", "on", "t"):
            raise SettingsError(
                f"the launcher asks for {what} ({variable}={value}), which a run could not go on from bit for bit",
                f"start it with {_HOW_TO_LAUNCH}, and let the run share the base model out: --set distributed={FSDP}",
            )
    if distributed == FSDP and not processes.several:
        raise SettingsError(
            f"distributed = {FSDP}: this run has one process, so there is none to share the base model with",
            f"start it with {_HOW_TO_LAUNCH}; or leave distributed at ddp, which one process alone trains with too",
        )


@dataclass(frozen=True)
class Shares:
    """What a process holds of a model's frozen weights, in bytes.

    `kept` of the `divided` ones, the others `whole`. `names`: the parameters that are divided.
    """

    names: tuple[str, ...]
    kept: int
    divided: int
    whole: int

    def describe(self) -> str:
        return (
            f"base model shared out: {show_size(self.kept)} of its decoder layers' {show_size(self.divided)} in this "
            f"process; {show_size(self.whole)} more (embeddings, output layer, norms) in each"
        )


def share_out(model: "torch.nn.Module", base: "PreTrainedModel", device: Device, processes: Processes) -> Shares:
    """Moves `model` to the device, where this process keeps its part of the frozen weights of `base` within it.

    It goes layer by layer: of a model in the CPU's memory, never more than one whole layer is on the device. All
    processes have to call it, with equal models. Raises SettingsError when the model's decoder layers are not known.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    decoder = base.base_model
    mesh = init_device_mesh(device.kind, (processes.count,))
    divided = 0
    for layer in _layers(base):
        layer.to(device.torch_name)
        _store_4_bits_as_floats(layer)
        weights = _to_divide(layer)
        divided += sum(weight.nbytes for weight in weights)
        fully_shard(layer, mesh=mesh, ignored_params=set(layer.parameters()) - weights)
    rest = {parameter for parameter in model.parameters() if not isinstance(parameter, DTensor)}
    # Without weights of its own it is what the layers' gathering is ordered by.
    fully_shard(decoder, mesh=mesh, ignored_params=rest & set(decoder.parameters()))
    for tensor in (*rest, *model.buffers()):
        tensor.data = tensor.data.to(device.torch_name)
    kept = {name: weight for name, weight in model.named_parameters() if isinstance(weight, DTensor)}
    return Shares(
        tuple(kept),
        sum(weight.to_local().nbytes for weight in kept.values()),
        divided,
        sum(parameter.nbytes for parameter in rest if not parameter.requires_grad),
    )


def _layers(base: "PreTrainedModel") -> "list[torch.nn.Module]":
    """The decoder layers, by the classes that transformers keeps on one device each."""
    classes = set(base._no_split_modules or ())
    layers = [module for module in base.base_model.modules() if type(module).__name__ in classes]
    if not layers:
        raise SettingsError(
            f"distributed = {FSDP}: transformers does not say which modules of {type(base).__name__} are its layers",
            "leave distributed at ddp for this model",
        )
    return layers


def _store_4_bits_as_floats(layer: "torch.nn.Module") -> None:
    """Lets packed weights pass for bf16, bytes unchanged: FSDP makes parameters of them, and those are floats.

    bitsandbytes takes packed weights in any type. It finds their constants at the module, where FSDP leaves them.
    """
    import torch
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    for module in layer.modules():
        if not isinstance(module, Linear4bit):
            continue
        weight = module.weight
        if isinstance(weight, Params4bit) and weight.nbytes % torch.bfloat16.itemsize == 0:
            module.quant_state, module.quant_storage = weight.quant_state, torch.bfloat16
            packed = weight.data.as_subclass(torch.Tensor).view(-1)
            module.weight = torch.nn.Parameter(packed.view(torch.bfloat16).view(-1, 1), requires_grad=False)


def _to_divide(layer: "torch.nn.Module") -> "set[Any]":
    """The frozen matrices of a layer in the type that most of them have: FSDP gathers one type at once."""
    matrices = [weight for weight in layer.parameters() if not weight.requires_grad and weight.dim() > 1]
    sizes: Counter[torch.dtype] = Counter()
    for weight in matrices:
        sizes[weight.dtype] += weight.nbytes
    common = {dtype for dtype, _ in sizes.most_common(1) if dtype.is_floating_point}
    return {weight for weight in matrices if weight.dtype in common}
