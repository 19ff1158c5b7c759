"""The README.md beside an adapter: what it was made of, how it went, how to load it.

The head is that of model cards on the Hugging Face hub (https://huggingface.co/docs/hub/model-cards).
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tunestack_train.presets import REHEARSAL_MODEL

CARD: Final = "README.md"
CURVE: Final = "curve.png"
_GEMMA: Final = re.compile(r"google/(code)?gemma.*", re.IGNORECASE)
_LLAMA: Final = re.compile(r"meta-llama/.*", re.IGNORECASE)
_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")


def card(record: Mapping[str, object], metrics: Sequence[Mapping[str, object]], *, steps: int, curve: bool) -> str:
    """The text for a run's record (`run.json`) and metrics. `curve`: its picture stands beside it, as CURVE."""
    config = _table(record.get("config"))
    data = _table(record.get("data"))
    model = str(config.get("model"))
    parts = [
        _head(model, data),
        f"# {config.get('name')}",
        f"A LoRA adapter for {_link(model)}, trained by tunestack in {steps:,} steps on "
        f"{data.get('rows', '?')} rows of {data.get('format', '?')} from `{data.get('source')}`.",
        "## How it went",
        f"![Loss and learning rate over the steps]({CURVE})" if curve else None,
        _outcome(metrics),
        "## Loading it",
        _loading(model),
        "## What it was made of",
        _rows({"data": data.get("source"), "SHA-256 of the data": data.get("sha256"), **_origin(record)}),
        "## Settings",
        _rows(config),
        "## Licence",
        _licence(model),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_card(folder: Path, metrics: Sequence[Mapping[str, object]], record: Path, *, steps: int, curve: bool) -> None:
    """Writes the card into `folder`, of the record in the file `record`."""
    content = json.loads(record.read_text(encoding="utf-8"))
    (folder / CARD).write_text(card(content, metrics, steps=steps, curve=curve), encoding="utf-8")


def _head(model: str, data: Mapping[str, object]) -> str:
    lines = ["library_name: peft", "pipeline_tag: text-generation", "tags: [lora, qlora, sft, tunestack]"]
    if _HUB_ID.fullmatch(model):
        lines.insert(0, f"base_model: {json.dumps(model)}")
    if _GEMMA.fullmatch(model):
        lines.append("license: gemma")
    source = str(data.get("source"))
    if source.startswith("hub:"):
        lines.append(f"datasets: [{json.dumps(source.removeprefix('hub:'))}]")
    return "\n".join(["---", *lines, "---"])


def _outcome(metrics: Sequence[Mapping[str, object]]) -> str:
    def values(name: str) -> list[float]:
        return [float(value) for entry in metrics if isinstance(value := entry.get(name), int | float)]

    losses, held_out = values("loss"), values("eval_loss")
    rows: dict[str, object] = {}
    if losses:
        rows |= {"first loss": f"{losses[0]:.4f}", "last loss": f"{losses[-1]:.4f}"}
    if held_out:
        rows |= {"best loss on what was held out": f"{min(held_out):.4f}", "last": f"{held_out[-1]:.4f}"}
    return _rows(rows, "loss", "nats per learnt token") if rows else "No losses were logged."


def _loading(model: str) -> str:
    base = "PATH_OF_THE_BASE_MODEL" if model == REHEARSAL_MODEL else model
    return "\n".join(
        [
            "```python",
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'adapter = "."  # this folder',
            "tokenizer = AutoTokenizer.from_pretrained(adapter)",
            f'base = AutoModelForCausalLM.from_pretrained("{base}", dtype="auto")',
            "model = PeftModel.from_pretrained(base, adapter)",
            "```",
        ]
    )


def _origin(record: Mapping[str, object]) -> dict[str, object]:
    model = _table(record.get("model"))
    return {
        "commit of the base model": model.get("commit"),
        "device": record.get("device"),
        "git commit": record.get("git_commit"),
        "image": record.get("image_digest"),
        **_table(record.get("versions")),
    }


def _licence(model: str) -> str:
    if _GEMMA.fullmatch(model):
        return (
            "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. An "
            "adapter is a model derivative: whoever passes it on passes on these terms and the restrictions of use."
        )
    if _LLAMA.fullmatch(model):
        return "The base model's community licence applies to what is derived from it: see its page on the hub."
    if model == REHEARSAL_MODEL:
        return "The base model was made on the spot with random weights. Nobody wants it."
    return "The licence of the base model applies to what is derived from it; the data may add its own."


def _link(model: str) -> str:
    return f"[{model}](https://huggingface.co/{model})" if _HUB_ID.fullmatch(model) else f"`{model}`"


def _rows(values: Mapping[str, object], name: str = "", value: str = "") -> str:
    shown = (f"| {key} | `{_cell(each)}` |" for key, each in values.items() if each is not None)
    return "\n".join([f"| {name} | {value} |", "|---|---|", *shown])


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ").replace("`", "'")


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
