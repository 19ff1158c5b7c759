"""From tokenised examples to the tensors of a step.

Importing this imports torch.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import torch

from tunestack_train.data.tokens import IGNORED
from tunestack_train.packing import Packing, pack
from tunestack_train.settings import RunConfig

if TYPE_CHECKING:
    from datasets import Dataset

LENGTHS: Final = "seq_lengths"
"""Column of a packed row: the tokens of each example in it. The name is TRL's."""
COUNTED: Final = "token_counts"
"""Key of a batch: the tokens of each row, without padding. For figures; the model does not take it."""


def training_rows(examples: "Dataset", config: RunConfig) -> "Dataset":
    """What a batch is made of: the examples themselves, or packed rows of them."""
    if not config.packing:
        return examples
    return packed_rows(examples, pack(_lengths(examples), config.max_length))


def _lengths(examples: "Dataset") -> list[int]:
    from pyarrow.compute import list_value_length

    lengths: list[int] = list_value_length(examples.with_format("arrow")[:]["input_ids"]).to_pylist()
    return lengths


def describe_course(rows: "Dataset", examples: "Dataset", config: RunConfig, processes: int) -> str:
    """For people: how many rows, how much of them is padding, and how often the steps of the run pass over them."""
    each = config.per_device_train_batch_size * processes
    steps_a_pass = math.ceil(math.ceil(len(rows) / each) / config.gradient_accumulation_steps)
    steps = config.max_steps or math.ceil(config.num_train_epochs * steps_a_pass)
    course = f"{steps:,} steps are {steps / steps_a_pass:.3g} passes over the data, {steps_a_pass:,} steps each"
    if not config.packing:
        return course
    padding = 1 - sum(_lengths(examples)) / (len(rows) * config.max_length)
    return (
        f"packing: {len(examples):,} examples in {len(rows):,} rows of {config.max_length}, {padding:.1%} padding; "
        f"{course}"
    )


def packed_rows(examples: "Dataset", packing: Packing) -> "Dataset":
    """Rows of several examples each, one behind the other; read from `examples` when they are asked for.

    `examples` has columns `input_ids` and `labels`; a row has both, and LENGTHS.
    """
    from datasets import Dataset
    from numpy import concatenate

    tokens = examples.with_format("numpy", columns=["input_ids", "labels"])

    def read(batch: dict[str, list[list[int]]]) -> dict[str, list[Any]]:
        rows = [[tokens[int(index)] for index in indices] for indices in batch["examples"]]
        columns: dict[str, list[Any]] = {
            name: [concatenate([example[name] for example in row]) for row in rows] for name in ("input_ids", "labels")
        }
        columns[LENGTHS] = [[len(example["input_ids"]) for example in row] for row in rows]
        return columns

    return Dataset.from_dict({"examples": [list(row) for row in packing.rows]}).with_transform(read)


class Collator:
    """A batch out of rows, padded to its longest; of packed ones `position_ids` say where each example begins.

    transformers takes attention apart where position ids restart. Flash attention does so in one long row alone, which
    costs it nothing, so with `flatten` all rows become one; others' time would grow with its square.
    """

    def __init__(self, pad_token_id: int, *, flatten: bool) -> None:
        self._pad_token_id = pad_token_id
        self._flatten = flatten

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """`rows` have `input_ids`, `labels` and, when packed, LENGTHS. Gives int64 tensors of [rows, tokens].

        The first label of every example is IGNORED: what stands before it is another example, or nothing.
        """
        packed = LENGTHS in rows[0]
        ids = [torch.tensor(row["input_ids"], dtype=torch.long) for row in rows]
        lengths = [list(row[LENGTHS]) if packed else [len(row["input_ids"])] for row in rows]
        labels = [_without_first(row["labels"], of_row) for row, of_row in zip(rows, lengths, strict=True)]
        more: dict[str, Any] = {}
        if not packed:
            more["attention_mask"] = _pad([torch.ones_like(row) for row in ids], 0)
        else:
            positions = [torch.cat([torch.arange(length) for length in of_row]) for of_row in lengths]
            if self._flatten:
                ids, labels, positions = [torch.cat(ids)], [torch.cat(labels)], [torch.cat(positions)]
                more |= _bounds([length for of_row in lengths for length in of_row])
            # No attention mask: transformers looks at the positions only without one. A padding token, at position 0,
            # is by itself.
            more["position_ids"] = _pad(positions, 0)
        more[COUNTED] = torch.tensor([len(row) for row in ids])
        return {"input_ids": _pad(ids, self._pad_token_id), "labels": _pad(labels, IGNORED), **more}


def _without_first(labels: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
    changed = torch.tensor(labels, dtype=torch.long)
    start = 0
    for length in lengths:
        changed[start] = IGNORED
        start += length
    return changed


def _pad(rows: Sequence[torch.Tensor], value: int) -> torch.Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)


def _bounds(lengths: list[int]) -> dict[str, Any]:
    """Where examples begin and end in one long row, as flash attention wants it, so that no layer has to look."""
    ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    longest = max(lengths)
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
