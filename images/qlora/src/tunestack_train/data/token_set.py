"""A tokenised data set: written once, kept by its content, memory-mapped by whoever trains on it."""

import hashlib
import json
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tunestack_train.data.cache import ContentCache
from tunestack_train.data.load import Dropped, TrainingData
from tunestack_train.data.rows import BadRow
from tunestack_train.data.tokens import IGNORED, Encoded, encode
from tunestack_train.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

_TOKENS: Final = "tokens.arrow"
_ABOUT: Final = "about.json"
_BATCH: Final = 1024
# config.json says which class reads the others.
_TOKENIZER_FILES: Final = (
    "config.json",
    "*token*.json",
    "*.model",
    "vocab.*",
    "merges.txt",
    "chat_template*",
)


@dataclass(frozen=True)
class Lengths:
    """Tokens of an example: the shortest, the middle one, the one that 95 % do not exceed, the longest."""

    least: int
    median: int
    p95: int
    most: int


@dataclass(frozen=True)
class Counts:
    """`tokens` are those left after cutting; `learnt` those that the loss falls on; `cut` the examples cut short."""

    examples: int
    tokens: int
    learnt: int
    cut: int
    lengths: Lengths


@dataclass(frozen=True)
class TokenSet:
    """Examples as tokens and labels, in the order of the data. `dropped`: nothing to learn was left after the cut."""

    path: Path
    counts: Counts
    dropped: Dropped

    def dataset(self) -> "Dataset":
        """Columns `input_ids` and `labels`, of the same length in a row; IGNORED labels are no target."""
        from datasets import Dataset

        return Dataset.from_file(str(self.path)).select_columns(["input_ids", "labels"])

    def first(self, count: int) -> Iterator[Encoded]:
        """The first examples, with their origins."""
        from datasets import Dataset

        for row in islice(Dataset.from_file(str(self.path)), count):
            yield Encoded(row["origin"], row["input_ids"], row["labels"], row["cut"])


def tokenise(
    data: TrainingData,
    tokenizer: "PreTrainedTokenizerBase",
    tokenizer_folder: Path,
    max_length: int,
    cache: ContentCache,
) -> TokenSet:
    """The tokens of the data as this tokenizer, with its chat template, makes them; from the cache where it has them.

    Raises DataError for what the template cannot render, or when the cut leaves nothing to learn at all.
    """
    identity = (data.sha256, data.data_format, data.dropped.count, data.files, _hash_tokenizer(tokenizer_folder))
    key = cache.key("tokens", *identity, tokenizer.chat_template, max_length)
    folder = cache.get(key, lambda partial: _write(partial, encode(tokenizer, data.examples(), max_length), max_length))
    return _read(folder)


def _hash_tokenizer(folder: Path) -> str:
    """SHA-256 over the files that a tokenizer is loaded from, by name and content."""
    total = hashlib.sha256()
    for file in sorted({file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern)}):
        total.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _write(folder: Path, examples: Iterator[Encoded], max_length: int) -> None:
    import pyarrow

    integers = pyarrow.list_(pyarrow.int32())
    schema = pyarrow.schema(
        [("input_ids", integers), ("labels", integers), ("origin", pyarrow.string()), ("cut", pyarrow.int32())]
    )
    tally = _Tally(max_length)
    with pyarrow.OSFile(str(folder / _TOKENS), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
        kept = (example for example in examples if tally.takes(example))
        while batch := list(islice(kept, _BATCH)):
            columns = [
                pyarrow.array([example.input_ids for example in batch], integers),
                pyarrow.array([example.labels for example in batch], integers),
                pyarrow.array([example.origin for example in batch], pyarrow.string()),
                pyarrow.array([example.cut for example in batch], pyarrow.int32()),
            ]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))
    about = {"counts": asdict(tally.counts()), "dropped": tally.dropped.as_dict()}
    (folder / _ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


class _Tally:
    """Counts what goes by, and says of each example whether there is anything to learn in it."""

    def __init__(self, max_length: int) -> None:
        self.dropped = Dropped()
        self._max_length = max_length
        self._lengths = array("q")
        self._learnt = self._cut = 0

    def takes(self, example: Encoded) -> bool:
        # The first token has nothing before it to be predicted from.
        learnt = len(example.labels) - example.labels.count(IGNORED) - (example.labels[:1] not in ([], [IGNORED]))
        if not learnt:
            reason = f"nothing to learn is left in its first {self._max_length} tokens ({example.cut} were cut)"
            self.dropped = self.dropped.and_also(BadRow(example.origin, reason))
            return False
        self._lengths.append(len(example.input_ids))
        self._learnt += learnt
        self._cut += example.cut > 0
        return True

    def counts(self) -> Counts:
        if not self._lengths:
            first = self.dropped.first[0] if self.dropped.first else "there is none"
            raise DataError(
                f"no example has anything to learn within max_length = {self._max_length} tokens: {first}",
                "set max_length higher, or shorten the prompts",
            )
        lengths = sorted(self._lengths)
        most = len(lengths) - 1
        spread = Lengths(lengths[0], lengths[most // 2], lengths[-(-most * 95 // 100)], lengths[most])
        return Counts(len(lengths), sum(lengths), self._learnt, self._cut, spread)


def _read(folder: Path) -> TokenSet:
    about: dict[str, Any] = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    counts = about["counts"]
    dropped = Dropped(about["dropped"]["count"], tuple(BadRow(*row) for row in about["dropped"]["first"]))
    return TokenSet(folder / _TOKENS, Counts(**{**counts, "lengths": Lengths(**counts["lengths"])}), dropped)
