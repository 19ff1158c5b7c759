"""A whole data set, read and checked, with the identity that a run remembers it by."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

from tunestack_train.data.cache import ContentCache
from tunestack_train.data.examples import COLUMNS, Example, recognise, to_example
from tunestack_train.data.rows import BadRow, Row, find_files, hash_files, read_rows
from tunestack_train.errors import DataError
from tunestack_train.settings import HUB_PREFIX

_SHOWN: Final = 20
_SUMMARY: Final = "rows.json"


@dataclass(frozen=True)
class Dropped:
    """What is left out of the training: how much, and the first of it by name."""

    count: int = 0
    first: tuple[BadRow, ...] = ()

    def and_also(self, row: BadRow) -> "Dropped":
        return Dropped(self.count + 1, (*self.first, row) if self.count < _SHOWN else self.first)

    def as_dict(self) -> dict[str, object]:
        return {"count": self.count, "first": [[row.origin, row.reason] for row in self.first]}


@dataclass(frozen=True)
class TrainingData:
    """Rows of one format, every one of which was read once and found usable. They stay in their files.

    `rows` counts them without those dropped; `sha256` changes with every byte of the files.
    """

    source: str
    data_format: str
    files: tuple[str, ...]
    rows: int
    dropped: Dropped
    sha256: str
    read: Callable[[], Iterator[Row | BadRow]] = field(repr=False, compare=False)

    def examples(self) -> Iterator[Example]:
        """The rows in order, read anew each time. Raises DataError when the files are no longer what was checked."""
        count = 0
        for example in _usable(self.read(), self.data_format):
            count += not isinstance(example, BadRow)
            if not isinstance(example, BadRow):
                yield example
        if count != self.rows:
            raise DataError(
                f"{self.source} was changed while it was read: it had {self.rows} rows, now {count}",
                "leave the data alone while a run prepares, and start again",
            )

    def summary(self) -> dict[str, object]:
        return {
            "source": self.source,
            "format": self.data_format,
            "files": list(self.files),
            "rows": self.rows,
            "dropped": self.dropped.count,
            "sha256": self.sha256,
        }


def load(
    source: str, data_format: str, *, drop_bad_rows: bool = False, cache: ContentCache | None = None
) -> TrainingData:
    """Checks all rows of a file, a folder or `hub:ID`. Raises DataError naming every row that cannot be used.

    With `drop_bad_rows` such rows are left out and counted; a file that breaks off is refused all the same. Files that
    `cache` knows to be good are not read row by row again.
    """
    if source.startswith(HUB_PREFIX):
        return _load_hub(source, data_format, drop_bad_rows=drop_bad_rows)
    path = Path(source)
    files = find_files(path)
    names = tuple(file.name if path.is_file() else file.relative_to(path).as_posix() for file in files)

    def read() -> Iterator[Row | BadRow]:
        return chain.from_iterable(read_rows(file) for file in files)

    def check() -> tuple[str, int, Dropped]:
        return _check(source, read(), data_format, drop_bad_rows=drop_bad_rows)

    if any(_ends_at_once(file) for file in files):
        check()  # which says so; hashing comes after it, since that takes minutes where such a file is huge
    sha256 = hash_files(path, files)
    if cache is None:
        chosen, rows, dropped = check()
    else:
        key = cache.key("rows", sha256, names, data_format, drop_bad_rows)
        folder = cache.get(key, lambda folder: _write_summary(folder, *check()))
        chosen, rows, dropped = _read_summary(folder)
    return TrainingData(source, chosen, names, rows, dropped, sha256, read)


def _load_hub(source: str, data_format: str, *, drop_bad_rows: bool) -> TrainingData:
    dataset_id = source.removeprefix(HUB_PREFIX)
    loaded = _hub_data_set(dataset_id)
    digest = hashlib.sha256()

    def read() -> Iterator[Row]:
        return (Row(f"{dataset_id}:row {number}", fields) for number, fields in enumerate(loaded, start=1))

    def hashed() -> Iterator[Row]:
        for row in read():
            digest.update(json.dumps(row.fields, sort_keys=True, default=str).encode() + b"\n")
            yield row

    chosen, rows, dropped = _check(source, hashed(), data_format, drop_bad_rows=drop_bad_rows)
    return TrainingData(source, chosen, (dataset_id,), rows, dropped, digest.hexdigest(), read)


def _check(
    source: str, rows: Iterable[Row | BadRow], data_format: str, *, drop_bad_rows: bool
) -> tuple[str, int, Dropped]:
    """The format, the number of usable rows, and what is dropped. Raises DataError for what may not be dropped."""
    chosen = None if data_format == "auto" else data_format
    bad = Dropped()
    broken_off = Dropped()
    count = 0
    for row in rows:
        if chosen is None and isinstance(row, Row):
            chosen = recognise(row)
            if chosen is None:
                raise _unrecognised(row)
        example = _usable_row(row, chosen)
        if not isinstance(example, BadRow):
            count += 1
        elif example.ends_file:
            broken_off, bad = broken_off.and_also(example), bad.and_also(example)
        else:
            bad = bad.and_also(example)
    if broken_off.count and (drop_bad_rows or broken_off.count == bad.count):
        raise _unreadable(source, broken_off)
    if bad.count and not drop_bad_rows:
        raise _broken(source, bad, chosen)
    if chosen is None or not count:
        raise DataError(f"{source} holds no rows{' that can be used' if bad.count else ''}", "give at least one row")
    return chosen, count, bad


def _ends_at_once(file: Path) -> bool:
    """Whether not even the first row of a file can be read."""
    first = next(read_rows(file), None)
    return isinstance(first, BadRow) and first.ends_file


def _usable(rows: Iterable[Row | BadRow], data_format: str) -> Iterator[Example | BadRow]:
    return (_usable_row(row, data_format) for row in rows)


def _usable_row(row: Row | BadRow, data_format: str | None) -> Example | BadRow:
    if isinstance(row, BadRow) or data_format is None:
        return row if isinstance(row, BadRow) else BadRow(row.origin, "is of no known format")
    try:
        return to_example(row, data_format)
    except ValueError as error:
        return BadRow(row.origin, str(error))


def _write_summary(folder: Path, data_format: str, rows: int, dropped: Dropped) -> None:
    content = {"format": data_format, "rows": rows, "dropped": dropped.as_dict()}
    (folder / _SUMMARY).write_text(json.dumps(content), encoding="utf-8")


def _read_summary(folder: Path) -> tuple[str, int, Dropped]:
    content = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    first = tuple(BadRow(origin, reason) for origin, reason in content["dropped"]["first"])
    return content["format"], content["rows"], Dropped(content["dropped"]["count"], first)


def _unrecognised(row: Row) -> DataError:
    known = "; ".join(f"{name}: {', '.join(columns)}" for name, columns in COLUMNS.items())
    columns = [str(column) for column in row.fields]
    separator = next((mark for mark in (";", "\t") if len(columns) == 1 and mark in columns[0]), None)
    hint = "" if separator is None else f"separate columns by commas and not by {separator!r}, and "
    return DataError(
        f"{row.origin}: its columns ({', '.join(columns) or 'none'}) are those of no known format",
        f"{hint}name the columns as one of these formats does. {known}",
    )


def _unreadable(source: str, broken_off: Dropped) -> DataError:
    files = "1 file" if broken_off.count == 1 else f"{broken_off.count} files"
    what = source if Path(source).is_file() else f"{files} of {source}"
    return DataError(
        "\n".join([f"{what} cannot be read:", *_shown(broken_off)]),
        "mend, replace or remove what is named above; bad_rows=drop leaves out single rows alone, and of such a file "
        "nobody knows how many are lost",
    )


def _shown(bad: Dropped) -> list[str]:
    more = [f"  and {bad.count - len(bad.first)} more"] if bad.count > len(bad.first) else []
    return [*(f"  {row}" for row in bad.first), *more]


def _broken(source: str, bad: Dropped, data_format: str | None) -> DataError:
    count = "1 row" if bad.count == 1 else f"{bad.count} rows"
    read_as = "" if data_format is None else f", read as {data_format}"
    return DataError(
        "\n".join([f"{count} of {source} cannot be used{read_as}:", *_shown(bad)]),
        "mend or remove what is named above, or leave single bad rows out by --set bad_rows=drop; --dry-run checks the "
        "data without training",
    )


def _hub_data_set(dataset_id: str) -> Iterable[dict[str, object]]:
    import datasets
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    try:
        loaded: Iterable[dict[str, object]] = datasets.load_dataset(dataset_id, split="train")
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
    return loaded
