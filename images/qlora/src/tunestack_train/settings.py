"""The settings of a run, and the frozen config that they make.

Every setting has one line in `SETTINGS`: what it means, how it is read, what to do when it cannot be, and whether it
changes the result. Where the values come from is in `layers` and `resolve`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from tunestack_train.errors import Problem
from tunestack_train.presets import Value
from tunestack_train.setting_kinds import Setting, choice, flag, real, text, whole

HUB_PREFIX: Final = "hub:"
NO_EVAL_DATA: Final = "none"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run, fully resolved: the same config, data and software make the same adapter. Meanings are in `SETTINGS`."""

    name: str
    preset: str
    model: str
    model_revision: str
    data: str
    data_format: str
    bad_rows: str
    chat_template: str
    eval_data: str
    eval_share: float
    eval_steps: int
    max_length: int
    packing: bool
    max_steps: int
    num_train_epochs: float
    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    lr_scheduler_type: str
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    optim: str
    precision: str
    gradient_checkpointing: bool
    attn_implementation: str
    liger: str
    dataloader_workers: str
    load_in_4bit: bool
    bnb_4bit_quant_type: str
    bnb_4bit_use_double_quant: bool
    lora_r: int
    lora_alpha: int
    lora_dropout: float
    lora_target_modules: str
    on_oom: str
    memory_check: str
    device: str
    distributed: str
    seed: int
    save_steps: int
    save_total_limit: int
    save_in_background: bool
    logging_steps: int
    wandb_mode: str
    wandb_project: str

    def as_dict(self) -> dict[str, Value]:
        return asdict(self)


_NAME = r"[a-z0-9][a-z0-9._-]{0,62}"

SETTINGS: Final[Mapping[str, Setting]] = {
    "name": text(
        "name of the run; its checkpoints stand in a folder of that name",
        _NAME,
        "lower-case letters, digits, dots, hyphens and underscores, starting with a letter or digit, at most 63",
    ),
    "preset": text("preset that the other settings start from", _NAME, "the name of a preset", changes_result=False),
    "model": text(
        "Hugging Face id or folder of the base model", r"\S.*", "an id such as google/gemma-2-2b, or a folder"
    ),
    "model_revision": text("branch, tag or commit of the model on the hub", r"[\w./-]+", "a branch, tag or commit"),
    "data": text(
        "file or folder with the training data, or hub:ID of a data set on the Hugging Face hub",
        r"\S.*",
        "a JSONL, JSON, CSV or Parquet file, a folder of them, or hub:ID",
        changes_result=False,  # where it lies may differ from machine to machine; what it holds is compared by hash
    ),
    "data_format": choice(
        "what a row of the data is; auto recognises it", "auto", "chat", "instruction", "prompt_completion", "text"
    ),
    "bad_rows": choice(
        "what is done with rows that cannot be used: refuse stops before training, drop leaves them out",
        "refuse",
        "drop",
    ),
    "chat_template": text(
        "Jinja file that renders a conversation; auto takes the tokenizer's own",
        r"\S.*",
        "auto, or the path of a Jinja file",
    ),
    "eval_data": text(
        "data to evaluate on, none of which is trained on",
        r"\S.*",
        f"{NO_EVAL_DATA}, a file or folder as for data, or hub:ID",
        changes_result=False,
    ),
    "eval_share": real("share of the examples that is held out and evaluated on, chosen by their content", 0, 0.9),
    "eval_steps": whole(
        "steps between evaluations, beside those before each checkpoint", 0, 10_000_000, changes_result=False
    ),
    "max_length": whole("longest sequence in tokens; longer ones are cut at the end", 8, 1 << 20),
    "packing": flag("put several examples into one sequence of max_length, without attention across them"),
    "max_steps": whole("optimiser steps; 0 trains num_train_epochs instead", 0, 10_000_000),
    "num_train_epochs": real("passes over the data when max_steps is 0", 0, 10_000, above_least=True),
    "per_device_train_batch_size": whole("sequences in one forward pass on each device", 1, 4096),
    "gradient_accumulation_steps": whole("forward passes whose gradients make one optimiser step", 1, 4096),
    "learning_rate": real("highest learning rate", 0, 10, above_least=True),
    "lr_scheduler_type": choice(
        "course of the learning rate", "linear", "cosine", "constant", "constant_with_warmup", "polynomial"
    ),
    "warmup_ratio": real("share of the steps in which the learning rate rises", 0, 0.99),
    "weight_decay": real("decay of the trained weights in each step", 0, 1),
    "max_grad_norm": real("gradients are scaled down to this norm; 0 leaves them", 0, 1000),
    "optim": choice("optimiser", "adamw_8bit", "paged_adamw_8bit", "adamw_torch"),
    "precision": choice("number format of the computation", "bf16", "fp16", "float32"),
    "gradient_checkpointing": flag("compute activations twice in order to keep fewer of them in memory"),
    "attn_implementation": choice(
        "attention kernel; auto takes the fastest that computes what the model asks for on this device",
        "auto",
        "eager",
        "sdpa",
        "flash_attention_2",
        "flex_attention",
    ),
    "liger": choice(
        "Liger's fused kernels for norms, activations and position embeddings; auto takes them where they can be "
        "compiled: on CUDA with a C compiler",
        "auto",
        "on",
        "off",
    ),
    "dataloader_workers": text(
        "processes that prepare the next batches; auto takes 2 on CUDA and none elsewhere",
        r"auto|\d{1,2}",
        "auto, or a whole number from 0 to 99",
        changes_result=False,
    ),
    "load_in_4bit": flag("quantise the base model to 4 bits (QLoRA); false trains LoRA on the whole weights"),
    "bnb_4bit_quant_type": choice("4-bit number format", "nf4", "fp4"),
    "bnb_4bit_use_double_quant": flag("quantise the quantisation's constants too"),
    "lora_r": whole("rank of the adapter", 1, 4096),
    "lora_alpha": whole("scale of the adapter, over lora_r", 1, 65536),
    "lora_dropout": real("share of the adapter's inputs dropped in training", 0, 0.99),
    "lora_target_modules": text(
        "layers that get an adapter", r"all-linear|\w+(,\w+)*", "all-linear, or names of modules separated by commas"
    ),
    "on_oom": choice(
        "what is done when memory runs out in a step: halve does the step again in passes of half as many sequences "
        "and goes on so, the effective batch staying as it is; stop ends the run",
        "halve",
        "stop",
        changes_result=False,
    ),
    "memory_check": choice(
        "what is done with a run whose memory, by the estimate, exceeds the device's: refuse, or warn and start",
        "refuse",
        "warn",
        changes_result=False,
    ),
    "device": choice("device to train on; auto takes CUDA, then MPS, then the CPU", "auto", "cuda", "mps", "cpu"),
    "distributed": choice(
        "what several processes hold of the base model: ddp all of it each, fsdp a part of every layer each; what is "
        "trained is the same",
        "ddp",
        "fsdp",
        changes_result=False,
    ),
    "seed": whole("seed of everything random", 0, (1 << 32) - 1),
    "save_steps": whole("steps between checkpoints", 1, 10_000_000, changes_result=False),
    "save_total_limit": whole("checkpoints kept; older ones are removed", 1, 10_000, changes_result=False),
    "save_in_background": flag(
        "write checkpoints while the training goes on; false makes it wait for each", changes_result=False
    ),
    "logging_steps": whole("steps between lines of the log", 1, 100_000, changes_result=False),
    "wandb_mode": choice(
        "whether Weights & Biases gets the figures; auto takes WANDB_MODE, and without it a key for a wish",
        "auto",
        "online",
        "offline",
        "disabled",
        changes_result=False,
    ),
    "wandb_project": text(
        "project in Weights & Biases, where a key is given",
        r"[\w.-]{1,128}",
        "letters, digits, dots, hyphens",
        changes_result=False,
    ),
}


def config_from(values: Mapping[str, object]) -> RunConfig:
    """The config that `RunConfig.as_dict` gave. Raises ValueError when a setting is missing or cannot be read."""
    known: dict[str, Value] = {}
    for key, setting in SETTINGS.items():
        value = values.get(key)
        if not isinstance(value, str | int | float | bool):
            raise ValueError(f"setting {key} is {value!r}")
        known[key] = setting.read(value)
    return build(known)


def build(values: Mapping[str, Value]) -> RunConfig:
    """The config of values that their settings have read, one for each setting."""
    # Every value has passed its setting's `read`, which makes the field's type; a test compares the two tables.
    return RunConfig(**values)  # type: ignore[arg-type]


def contradictions(values: Mapping[str, Value]) -> list[Problem]:
    """What cannot be together, of values that are each allowed."""
    problems: list[Problem] = []
    if values["precision"] == "fp16" and values["device"] == "cpu":
        problems.append(
            Problem("precision", "fp16", "cannot be trained on the CPU", "leave it at bf16, or set precision=float32")
        )
    if values["eval_data"] != NO_EVAL_DATA and values["eval_share"]:
        problems.append(
            Problem(
                "eval_share",
                str(values["eval_share"]),
                f"together with eval_data = {values['eval_data']} there would be two sets to evaluate on",
                f"set eval_share=0, or eval_data={NO_EVAL_DATA}",
            )
        )
    return problems
