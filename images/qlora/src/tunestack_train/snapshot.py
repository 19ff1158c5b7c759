"""The state of a training after a step, copied to the CPU's memory: what a checkpoint is written from.

Training may go on while it is written, since nothing in it is shared with the training. Importing this imports torch.
"""

import copy
import dataclasses
import json
import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainerState

INTERVAL_FILE: Final = "interval.json"
"""What each process has summed up since the last line of the log, so that a resumed run writes the same next line."""


@dataclass(frozen=True)
class ProcessState:
    """What belongs to one process after `step`: its random generators, and its sums since the last line of the log."""

    step: int
    random: Mapping[str, Any]
    loss_sum: torch.Tensor
    last_logged_step: int
    figures: torch.Tensor | None
    tokens_trained: float
    evaluation_postponed: bool

    def on_cpu(self) -> "ProcessState":
        """The same, fit to be sent to another process, which has another GPU."""
        figures = None if self.figures is None else self.figures.cpu()
        return dataclasses.replace(self, loss_sum=self.loss_sum.cpu(), figures=figures)

    def interval(self) -> dict[str, Any]:
        return {
            "loss_sum": self.loss_sum.item(),
            "last_logged_step": self.last_logged_step,
            "figures": None if self.figures is None else self.figures.tolist(),
            "tokens_trained": self.tokens_trained,
            "evaluation_postponed": self.evaluation_postponed,
        }


@dataclass(frozen=True)
class Snapshot:
    """`processes` are in the order of their ranks; `static` holds the files that never change, by name."""

    adapter: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    scaler: Mapping[str, Any] | None
    trainer_state: str
    processes: list[ProcessState]
    static: Mapping[str, bytes]

    def write(self, folder: Path) -> None:
        """Writes the files of a checkpoint, under the names that Trainer and PEFT read."""
        for name, content in self.static.items():
            (folder / name).write_bytes(content)
        save_file(dict(self.adapter), folder / "adapter_model.safetensors", metadata={"format": "pt"})
        torch.save(self.optimizer, folder / "optimizer.pt")
        torch.save(self.scheduler, folder / "scheduler.pt")
        if self.scaler is not None:
            torch.save(self.scaler, folder / "scaler.pt")
        for rank, process in enumerate(self.processes):
            name = f"rng_state_{rank}.pth" if len(self.processes) > 1 else "rng_state.pth"
            torch.save(process.random, folder / name)
        intervals = [process.interval() for process in self.processes]
        (folder / INTERVAL_FILE).write_text(json.dumps(intervals) + "\n", encoding="utf-8")
        (folder / "trainer_state.json").write_text(self.trainer_state, encoding="utf-8")


def read_interval(checkpoint: Path, rank: int) -> dict[str, Any] | None:
    """The sums of the process `rank` in a checkpoint; None when it was written by fewer processes."""
    try:
        intervals = json.loads((checkpoint / INTERVAL_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return dict(intervals[rank]) if rank < len(intervals) else None


def adapter_weights(model: Any) -> dict[str, torch.Tensor]:
    """The trained weights of a PEFT model under the names of an adapter's file, copied."""
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    weights = get_peft_model_state_dict(model, state_dict=trained, save_embedding_layers=False)
    return {name: copied(weight).contiguous() for name, weight in weights.items()}


def copied(value: Any) -> Any:
    """A deep copy of nested dicts, lists and tuples with every tensor on the CPU. A tensor met twice stays one."""
    return _copied(value, {})


def _copied(value: Any, seen: dict[int, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        if id(value) not in seen:
            seen[id(value)] = value.detach().to("cpu", copy=True)
        return seen[id(value)]
    if isinstance(value, dict):
        return {key: _copied(item, seen) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item, seen) for item in value)
    return copy.deepcopy(value)


def random_state(*, several_processes: bool) -> dict[str, Any]:
    """The states of all generators that a training draws from."""
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all() if several_processes else torch.cuda.get_rng_state()
    return state


def trainer_state_text(state: "TrainerState") -> str:
    return json.dumps(dataclasses.asdict(state), indent=2, sort_keys=True) + "\n"


def static_files(model: Any, tokenizer: "PreTrainedTokenizerBase") -> dict[str, bytes]:
    """The adapter's configuration and the tokenizer, by file name."""
    config = copy.copy(model.peft_config["default"])
    config.inference_mode = True
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
