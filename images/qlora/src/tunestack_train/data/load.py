"""A whole data set, read and checked, with the identity that a run remembers it by."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from tunestack_train.data.examples import COLUMNS, Example, recognise, to_example
from tunestack_train.data.rows import BadRow, Row, find_files, hash_files, read_rows
from tunestack_train.errors import DataError
from tunestack_train.settings import HUB_PREFIX

_SHOWN: Final = 20


@dataclass(frozen=True)
class TrainingData:
    """`data_format` is what the rows were read as; `sha256` changes with every byte of the files."""

    source: str
    data_format: str
    files: tuple[str, ...]
    examples: tuple[Example, ...]
    sha256: str

    def summary(self) -> dict[str, object]:
        return {
            "source": self.source,
            "format": self.data_format,
            "files": list(self.files),
            "rows": len(self.examples),
            "sha256": self.sha256,
        }


def load(source: str, data_format: str) -> TrainingData:
    """Reads all rows of a file, a folder or `hub:ID`. Raises DataError naming every row that cannot be used."""
    if source.startswith(HUB_PREFIX):
        dataset_id = source.removeprefix(HUB_PREFIX)
        rows = list(_hub_rows(dataset_id))
        digest = hashlib.sha256()
        for row in rows:
            digest.update(json.dumps(row.fields, sort_keys=True, default=str).encode() + b"\n")
        return _check(source, rows, data_format, (dataset_id,), digest.hexdigest())
    path = Path(source)
    files = find_files(path)
    names = tuple(file.name if path.is_file() else file.relative_to(path).as_posix() for file in files)
    rows_of_files = chain.from_iterable(read_rows(file) for file in files)
    return _check(source, rows_of_files, data_format, names, hash_files(path, files))


def _check(
    source: str, rows: Iterable[Row | BadRow], data_format: str, files: tuple[str, ...], sha256: str
) -> TrainingData:
    chosen = None if data_format == "auto" else data_format
    examples: list[Example] = []
    bad: list[BadRow] = []
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        if chosen is None:
            chosen = recognise(row)
            if chosen is None:
                raise _unrecognised(row)
        try:
            examples.append(to_example(row, chosen))
        except ValueError as error:
            bad.append(BadRow(row.origin, str(error)))
    if bad:
        raise _broken(source, bad, chosen)
    if chosen is None or not examples:
        raise DataError(f"{source} holds no rows", "give data with at least one row")
    return TrainingData(source, chosen, files, tuple(examples), sha256)


def _unrecognised(row: Row) -> DataError:
    known = "; ".join(f"{name}: {', '.join(columns)}" for name, columns in COLUMNS.items())
    return DataError(
        f"{row.origin}: its columns ({', '.join(map(str, row.fields)) or 'none'}) are those of no known format",
        f"name the columns as one of these formats does. {known}",
    )


def _broken(source: str, bad: list[BadRow], data_format: str | None) -> DataError:
    shown = [f"  {row}" for row in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        shown.append(f"  and {len(bad) - _SHOWN} more")
    count = "1 row" if len(bad) == 1 else f"{len(bad)} rows"
    read_as = "" if data_format is None else f", read as {data_format}"
    return DataError(
        "\n".join([f"{count} of {source} cannot be used{read_as}:", *shown]),
        "mend or remove what is named above; `tunestack-train run … --dry-run` checks the data without training",
    )


def _hub_rows(dataset_id: str) -> Iterator[Row]:
    import datasets
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    try:
        loaded = datasets.load_dataset(dataset_id, split="train")
    except GatedRepoError as error:
        raise DataError(
            f"the data set {dataset_id} is gated",
            f"accept its terms at https://huggingface.co/datasets/{dataset_id} and give the token of that account",
        ) from error
    except (datasets.exceptions.DatasetNotFoundError, ConnectionError, HfHubHTTPError, ValueError, OSError) as error:
        raise DataError(
            f"the data set {dataset_id} cannot be had from the Hugging Face hub: {error}",
            "check its id, the network (HF_ENDPOINT names a mirror) and the token; or give a file or folder",
        ) from error
    for number, fields in enumerate(loaded, start=1):
        yield Row(f"{dataset_id}:row {number}", fields)
