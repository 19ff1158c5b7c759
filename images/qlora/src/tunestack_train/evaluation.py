"""What is held out of a run's data, its loss, and the checkpoint that did best on it.

The split goes by content alone: an example is on the same side in each start of a run, wherever it stands in the data,
and equal examples are never on both. Losses are part of each checkpoint's `trainer_state.json`, so that the best one is
known from the checkpoints themselves.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tunestack_train.data.tokens import IGNORED
from tunestack_train.errors import DataError
from tunestack_train.manifest import checkpoint_step

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

EVAL_LOSS: Final = "eval_loss"


class Split(NamedTuple):
    """What is trained on, and what is held out; None where nothing is."""

    training: "Dataset"
    held_out: "Dataset | None"


class Best(NamedTuple):
    """The checkpoint with the lowest evaluation loss, in nats for each learnt token."""

    checkpoint: Path
    eval_loss: float


def hold_out(dataset: "Dataset", share: float) -> Split:
    """Holds out about `share` of the examples (columns `input_ids` and `labels`).

    Raises DataError when nothing would be held out, or nothing left.
    """
    if share == 0:
        return Split(dataset, None)
    held_out = [index for index, ids in enumerate(dataset["input_ids"]) if _position(ids) < share]
    if not held_out or len(held_out) == len(dataset):
        side = "held out, so there is nothing to evaluate" if not held_out else "left to train on"
        raise DataError(
            f"of {len(dataset)} examples none is {side} with eval_share = {share:g}",
            "give another eval_share, more data, or a file of its own: --set eval_data=FILE",
        )
    chosen = set(held_out)
    return Split(
        dataset.select([index for index in range(len(dataset)) if index not in chosen]), dataset.select(held_out)
    )


def _position(ids: Sequence[int]) -> float:
    """Where an example stands between 0 and 1, evenly spread, by its tokens alone."""
    text = ",".join(map(str, ids)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8]) / 2**64


def batches(dataset: "Dataset", size: int, share: tuple[int, int] = (0, 1)) -> Iterator[list[dict[str, list[int]]]]:
    """The examples in their order, `size` at a time. `share`: which process's, of how many."""
    which, of = share
    rows = range(which, len(dataset), of)
    for start in range(0, len(rows), size):
        yield [dataset[index] for index in rows[start : start + size]]


def summed_loss(
    parts: Iterable["dict[str, torch.Tensor]"], mean_loss: Callable[["dict[str, torch.Tensor]"], "torch.Tensor"]
) -> "torch.Tensor":
    """Loss over all batches in nats, and the learnt tokens that it is the sum over: shape [2], float64.

    `mean_loss` gives a batch's loss for each learnt token; batches count by their tokens, not all the same.
    """
    import torch

    total = torch.zeros(2, dtype=torch.float64)
    for batch in parts:
        # The first token has nothing before it to be predicted from.
        tokens = int((batch["labels"][:, 1:] != IGNORED).sum())
        total += torch.tensor([float(mean_loss(batch)) * tokens, tokens], dtype=torch.float64)
    return total


def best_of(complete: Sequence[Path]) -> Best | None:
    """The best of complete checkpoints, newest first; None where none of them was evaluated. The earliest of equals."""
    losses = _losses(complete[0]) if complete else {}
    found = [
        Best(checkpoint, losses[step])
        for checkpoint in reversed(complete)
        if (step := checkpoint_step(checkpoint)) is not None and step in losses
    ]
    return min(found, key=lambda best: best.eval_loss, default=None)


def _losses(checkpoint: Path) -> dict[int, float]:
    """Evaluation loss by step, as the Trainer's log in a checkpoint has it."""
    try:
        history = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        return {int(entry["step"]): float(entry[EVAL_LOSS]) for entry in history if EVAL_LOSS in entry}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
