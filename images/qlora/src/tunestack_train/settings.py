"""The settings of a run: presets, what a person sets over them, and one frozen config made of both.

Every setting has one line in `SETTINGS`: what it means, how it is read, what to do when it cannot be. Layers are
applied in the order preset, command line (`--model`, `--data`), `--set`; the later wins, and where each value came from
is kept.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final

from tunestack_train.presets import DEFAULTS, PRESETS, Value

HUB_PREFIX: Final = "hub:"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run, fully resolved: the same config, data and software make the same adapter. Meanings are in `SETTINGS`."""

    name: str
    preset: str
    model: str
    model_revision: str
    data: str
    data_format: str
    chat_template: str
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
    load_in_4bit: bool
    bnb_4bit_quant_type: str
    bnb_4bit_use_double_quant: bool
    lora_r: int
    lora_alpha: int
    lora_dropout: float
    lora_target_modules: str
    device: str
    seed: int
    save_steps: int
    save_total_limit: int
    logging_steps: int
    wandb_project: str

    def as_dict(self) -> dict[str, Value]:
        return asdict(self)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the settings: where, the value, why, and what to do."""

    path: str
    value: str
    reason: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.path} = {self.value}\n    {self.reason}\n    {self.remedy}"


@dataclass(frozen=True)
class Layer:
    """Values from one place. `source` names the place for people, for example `preset gemma-2b` or `--set`."""

    source: str
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Resolved:
    config: RunConfig
    sources: Mapping[str, str]


@dataclass(frozen=True)
class Setting:
    meaning: str
    read: Callable[[Value], Value]
    """Turns what was given (text of a command line, a preset's typed value) into the value; ValueError says why not."""
    allowed: str


class SettingsProblems(Exception):  # noqa: N818 - it carries problems and is reported as them
    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"{len(problems)} problems in the settings")
        self.problems = problems


def _whole(meaning: str, least: int, most: int) -> Setting:
    def read(value: Value) -> int:
        try:
            if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
                raise ValueError
            number = int(value)
        except (ValueError, OverflowError):
            raise ValueError("is not a whole number") from None
        if not least <= number <= most:
            raise ValueError(f"is not between {least} and {most}")
        return number

    return Setting(meaning, read, f"a whole number from {least} to {most}")


def _real(meaning: str, least: float, most: float, *, above_least: bool = False) -> Setting:
    def read(value: Value) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise ValueError("is not a number")
        if not least <= number <= most or (above_least and number == least):
            raise ValueError(f"is not {'above' if above_least else 'between'} {least:g} and {most:g}")
        return number

    return Setting(
        meaning,
        read,
        f"a number {'above' if above_least else 'from'} {least:g} {'and up' if above_least else ''} to {most:g}",
    )


def _flag(meaning: str) -> Setting:
    def read(value: Value) -> bool:
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, bool):
            return value
        if str(value).lower() not in known:
            raise ValueError("is neither true nor false")
        return known[str(value).lower()]

    return Setting(meaning, read, "true or false")


def _choice(meaning: str, *choices: str) -> Setting:
    def read(value: Value) -> str:
        if str(value) not in choices:
            raise ValueError("is not one of the choices")
        return str(value)

    return Setting(meaning, read, "one of " + ", ".join(choices))


def _text(meaning: str, pattern: str, allowed: str) -> Setting:
    def read(value: Value) -> str:
        if not re.fullmatch(pattern, str(value)):
            raise ValueError("cannot be used here")
        return str(value)

    return Setting(meaning, read, allowed)


_NAME = r"[a-z0-9][a-z0-9._-]{0,62}"

SETTINGS: Final[Mapping[str, Setting]] = {
    "name": _text(
        "name of the run; its checkpoints stand in a folder of that name",
        _NAME,
        "lower-case letters, digits, dots, hyphens and underscores, starting with a letter or digit, at most 63",
    ),
    "preset": _text("preset that the other settings start from", _NAME, "the name of a preset"),
    "model": _text(
        "Hugging Face id or folder of the base model", r"\S.*", "an id such as google/gemma-2-2b, or a folder"
    ),
    "model_revision": _text("branch, tag or commit of the model on the hub", r"[\w./-]+", "a branch, tag or commit"),
    "data": _text(
        "file or folder with the training data, or hub:ID of a data set on the Hugging Face hub",
        r"\S.*",
        "a JSONL, JSON, CSV or Parquet file, a folder of them, or hub:ID",
    ),
    "data_format": _choice(
        "what a row of the data is; auto recognises it", "auto", "chat", "instruction", "prompt_completion", "text"
    ),
    "chat_template": _text(
        "Jinja file that renders a conversation; auto takes the tokenizer's own",
        r"\S.*",
        "auto, or the path of a Jinja file",
    ),
    "max_length": _whole("longest sequence in tokens; longer ones are cut at the end", 8, 1 << 20),
    "packing": _flag("put several examples into one sequence, without attention across them"),
    "max_steps": _whole("optimiser steps; 0 trains num_train_epochs instead", 0, 10_000_000),
    "num_train_epochs": _real("passes over the data when max_steps is 0", 0, 10_000, above_least=True),
    "per_device_train_batch_size": _whole("sequences in one forward pass on each device", 1, 4096),
    "gradient_accumulation_steps": _whole("forward passes whose gradients make one optimiser step", 1, 4096),
    "learning_rate": _real("highest learning rate", 0, 10, above_least=True),
    "lr_scheduler_type": _choice(
        "course of the learning rate", "linear", "cosine", "constant", "constant_with_warmup", "polynomial"
    ),
    "warmup_ratio": _real("share of the steps in which the learning rate rises", 0, 0.99),
    "weight_decay": _real("decay of the trained weights in each step", 0, 1),
    "max_grad_norm": _real("gradients are scaled down to this norm; 0 leaves them", 0, 1000),
    "optim": _choice("optimiser", "adamw_8bit", "paged_adamw_8bit", "adamw_torch"),
    "precision": _choice("number format of the computation", "bf16", "fp16", "float32"),
    "gradient_checkpointing": _flag("compute activations twice in order to keep fewer of them in memory"),
    "attn_implementation": _choice(
        "attention kernels; auto takes eager for Gemma 2 and sdpa otherwise",
        "auto",
        "eager",
        "sdpa",
        "flash_attention_2",
    ),
    "load_in_4bit": _flag("quantise the base model to 4 bits (QLoRA); false trains LoRA on the whole weights"),
    "bnb_4bit_quant_type": _choice("4-bit number format", "nf4", "fp4"),
    "bnb_4bit_use_double_quant": _flag("quantise the quantisation's constants too"),
    "lora_r": _whole("rank of the adapter", 1, 4096),
    "lora_alpha": _whole("scale of the adapter, over lora_r", 1, 65536),
    "lora_dropout": _real("share of the adapter's inputs dropped in training", 0, 0.99),
    "lora_target_modules": _text(
        "layers that get an adapter", r"all-linear|\w+(,\w+)*", "all-linear, or names of modules separated by commas"
    ),
    "device": _choice("device to train on; auto takes CUDA, then MPS, then the CPU", "auto", "cuda", "mps", "cpu"),
    "seed": _whole("seed of everything random", 0, (1 << 32) - 1),
    "save_steps": _whole("steps between checkpoints", 1, 10_000_000),
    "save_total_limit": _whole("checkpoints kept; older ones are removed", 1, 10_000),
    "logging_steps": _whole("steps between lines of the log", 1, 100_000),
    "wandb_project": _text(
        "project in Weights & Biases, where a key is given", r"[\w.-]{1,128}", "letters, digits, dots, hyphens"
    ),
}

_PRESET_NAMES: Final = tuple(PRESETS)


def resolve(name: str, preset: str | None, layers: list[Layer]) -> Resolved:
    """Puts the layers over the preset. Raises SettingsProblems with everything that is wrong, not only the first."""
    problems: list[Problem] = []
    chosen = preset if preset is not None else "custom"
    if chosen not in PRESETS:
        problems.append(_choice_problem("preset", chosen, "is not a preset", _PRESET_NAMES))
        chosen = "custom"
    given = Layer("command line", {"name": name, "preset": chosen})
    sources: dict[str, str] = {}
    values: dict[str, Value] = {}
    for layer in [Layer("default", DEFAULTS), Layer(f"preset {chosen}", PRESETS[chosen]), *layers, given]:
        for key, value in layer.values.items():
            if key not in SETTINGS or (layer.source == "--set" and key in given.values):
                problems.append(_unknown(key, value, layer.source))
                continue
            try:
                values[key] = SETTINGS[key].read(value)
            except ValueError as error:
                problems.append(_unreadable(key, value, str(error)))
                values[key] = value
            sources[key] = layer.source
    problems += _missing(values, preset_problem=any(problem.path == "preset" for problem in problems))
    if not problems:
        problems += _contradictions(values)
    if problems:
        raise SettingsProblems(problems)
    return Resolved(_build(values), {field.name: sources[field.name] for field in fields(RunConfig)})


def parse_assignments(assignments: list[str]) -> dict[str, Value]:
    """`key=value` texts of `--set`. Raises SettingsProblems for what has no `=`."""
    problems = [
        Problem("--set", repr(text), "has no `=`", "write --set key=value, for example --set max_steps=200")
        for text in assignments
        if "=" not in text
    ]
    if problems:
        raise SettingsProblems(problems)
    return {key.strip(): value for key, _, value in (text.partition("=") for text in assignments)}


def config_from(values: Mapping[str, object]) -> RunConfig:
    """The config that `RunConfig.as_dict` gave. Raises ValueError when a setting is missing or cannot be read."""
    known: dict[str, Value] = {}
    for key, setting in SETTINGS.items():
        value = values.get(key)
        if not isinstance(value, str | int | float | bool):
            raise ValueError(f"setting {key} is {value!r}")
        known[key] = setting.read(value)
    return _build(known)


def _build(values: Mapping[str, Value]) -> RunConfig:
    # Every value has passed its setting's `read`, which makes the field's type; a test compares the two tables.
    return RunConfig(**values)  # type: ignore[arg-type]


def _missing(values: Mapping[str, Value], *, preset_problem: bool) -> list[Problem]:
    problems: list[Problem] = []
    if "data" not in values:
        problems.append(
            Problem("data", "not set", "there is nothing to train on", f"give --data {SETTINGS['data'].allowed}")
        )
    if "model" not in values and not preset_problem:
        remedy = f"give --model {SETTINGS['model'].allowed}; or --preset {', '.join(_PRESET_NAMES[:-1])}"
        problems.append(Problem("model", "not set", "there is no model to train", remedy))
    return problems


def _contradictions(values: Mapping[str, Value]) -> list[Problem]:
    problems: list[Problem] = []
    if values["precision"] == "fp16" and values["device"] == "cpu":
        problems.append(
            Problem("precision", "fp16", "cannot be trained on the CPU", "leave it at bf16, or set precision=float32")
        )
    if (
        values["packing"]
        and values["per_device_train_batch_size"] != 1
        and values["attn_implementation"] != "flash_attention_2"
    ):
        size = values["per_device_train_batch_size"]
        accumulation = values["gradient_accumulation_steps"]
        problems.append(
            Problem(
                "packing",
                "true",
                f"with per_device_train_batch_size = {size} all {size} packed sequences become one, and the memory of "
                "attention grows with the square of its length",
                f"set per_device_train_batch_size=1 and gradient_accumulation_steps={int(size) * int(accumulation)}",
            )
        )
    return problems


def _unknown(key: str, value: Value, source: str) -> Problem:
    if key in SETTINGS:
        return Problem(key, repr(value), f"cannot be given by {source}", f"write --{key} {value}")
    return _choice_problem(key, repr(value), f"is not a setting ({source})", tuple(SETTINGS), key)


def _unreadable(key: str, value: Value, reason: str) -> Problem:
    setting = SETTINGS[key]
    return Problem(key, repr(value), f"{reason} ({setting.meaning})", f"give {setting.allowed}")


def _choice_problem(path: str, value: str, reason: str, choices: tuple[str, ...], wrong: str | None = None) -> Problem:
    close = difflib.get_close_matches(wrong or value, choices, n=1)
    remedy = f"did you mean {close[0]}? " if close else ""
    return Problem(path, value, reason, f"{remedy}There are: {', '.join(choices)}")
