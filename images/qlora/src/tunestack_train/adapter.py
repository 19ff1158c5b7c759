"""What is trained: LoRA's weights, the number format that they are kept and computed in, and their dropout.

Importing this imports torch and peft, which takes seconds: import it where it is used.
"""

from typing import Final

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer

from tunestack_train.settings import RunConfig

# The least number of 64 bits, and how many there are of the 16 bits that decide on an element.
_LOWEST: Final = -(2**63)
_PARTS: Final = 2**16


def lora_config(config: RunConfig) -> LoraConfig:
    modules = config.lora_target_modules
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=modules if modules == "all-linear" else modules.split(","),
        bias="none",
        task_type="CAUSAL_LM",
    )


def keep_in_float32(model: torch.nn.Module) -> None:
    """Keeps what is trained in `model` in float32; its products are then taken in the dtype of autocast.

    TRL makes it bf16, where a step that is small beside the weight is lost in rounding. And a checkpoint is loaded as
    float32, so that a resumed run would drift. Call it once the adapter is there; from then on the model computes under
    autocast, unless all of it is float32.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            # Where autocast is on for another device than CUDA, PEFT does not see it and makes all inputs float32, for
            # autocast to make them bf16 again.
            module.cast_input_dtype_enabled = False


class QuickDropout(torch.nn.Dropout):
    """Dropout for a CPU, at half of PyTorch's time: one 64-bit random number decides on four elements.

    PyTorch draws a number for each element, which with LoRA on all layers is a fifth of a small model's step. `p` is
    rounded to 1/65536. Draws from the CPU's generator, so that checkpointing and a resumed run see the same masks.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 # the name that nn.Dropout gives it
        if not self.training or self.p == 0:
            return input
        numbers = torch.empty((input.numel() + 3) // 4, dtype=torch.int64).random_(_LOWEST, None)
        parts = numbers.view(torch.int16)[: input.numel()].view(input.shape)
        dropped = round(self.p * _PARTS)
        mask = (parts >= dropped - _PARTS // 2).to(input.dtype).mul_(_PARTS / (_PARTS - dropped))
        return input * mask


def drop_quickly(model: torch.nn.Module) -> None:
    """Gives the adapter of a model on a CPU the dropout made for one."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name, dropout in module.lora_dropout.items():
                if isinstance(dropout, torch.nn.Dropout):
                    module.lora_dropout[name] = QuickDropout(dropout.p)
