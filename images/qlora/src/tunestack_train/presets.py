"""The presets, and the defaults that all of them start from."""

from collections.abc import Mapping
from typing import Final

Value = str | int | float | bool
"""What a setting can be."""

REHEARSAL_MODEL: Final = "rehearsal"
"""The model that is made on the spot, in place of an id or a folder."""

# Laid out for one RTX 4090 with 24 GB. The learning rate is that of the QLoRA paper for models of 7 and 13 billion
# parameters (https://arxiv.org/abs/2305.14314).
DEFAULTS: Final[Mapping[str, Value]] = {
    "model_revision": "main",
    "data_format": "auto",
    "bad_rows": "refuse",
    "chat_template": "auto",
    "eval_data": "none",
    "eval_share": 0.0,
    "eval_steps": 0,
    "max_length": 1024,
    "packing": False,
    "max_steps": 0,
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 4,
    "learning_rate": 2e-4,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.03,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "optim": "adamw_8bit",
    "precision": "bf16",
    "gradient_checkpointing": True,
    "attn_implementation": "auto",
    "liger": "auto",
    "dataloader_workers": "auto",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "lora_r": 32,
    "lora_alpha": 32,
    "lora_dropout": 0.05,
    "lora_target_modules": "all-linear",
    "on_oom": "halve",
    "memory_check": "refuse",
    "device": "auto",
    "distributed": "ddp",
    "seed": 42,
    "save_steps": 50,
    "save_total_limit": 3,
    "save_in_background": True,
    "logging_steps": 5,
    "wandb_mode": "auto",
    "wandb_project": "tunestack",
}

PRESETS: Final[Mapping[str, Mapping[str, Value]]] = {
    "gemma-2b": {"model": "google/gemma-2-2b", "max_steps": 1000},
    "gemma-9b": {
        "model": "google/gemma-2-9b",
        "max_steps": 800,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 8,
    },
    "rehearsal": {
        "model": REHEARSAL_MODEL,
        "max_steps": 30,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "warmup_ratio": 0.0,
        "max_length": 256,
        "save_steps": 10,
        "logging_steps": 1,
    },
    "custom": {},
}
