"""What is trained: LoRA's weights, and the number format that they are kept and computed in.

Importing this imports torch and peft, which takes seconds: import it where it is used.
"""

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer

from tunestack_train.settings import RunConfig


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
