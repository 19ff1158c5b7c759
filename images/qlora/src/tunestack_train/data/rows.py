"""Rows out of JSONL, JSON, CSV and Parquet files, each with the place that it stands at."""

import csv
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunestack_train.errors import DataError

UTF8_MARK: Final = b"\xef\xbb\xbf"
FORMATS_HINT: Final = "give a JSONL, JSON, CSV or Parquet file, or a folder of them"


@dataclass(frozen=True)
class Row:
    """One row. `origin` is the file and line that it starts at (`data.jsonl:17`), or its number."""

    origin: str
    fields: Mapping[str, object]


@dataclass(frozen=True)
class BadRow:
    origin: str
    reason: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


class RowError(ValueError):
    """A file that breaks off at a row: nothing after it can be read."""

    def __init__(self, origin: str, reason: str) -> None:
        super().__init__(f"{origin}: {reason}")
        self.bad_row = BadRow(origin, reason)


def find_files(source: Path) -> list[Path]:
    """The data files that `source` is or holds, sorted by name. Raises DataError when there are none."""
    if not source.exists():
        raise DataError(f"there is no file or folder {source}", f"{FORMATS_HINT}; or hub:ID of a data set on the hub")
    if source.is_file():
        if source.suffix.lower() not in _READERS:
            raise DataError(
                f"{source} ends in {source.suffix or 'nothing'}, which says nothing about its format",
                f"name it by its format: {', '.join(_READERS)}",
            )
        return [source]
    visible = (path for path in sorted(source.rglob("*")) if not path.relative_to(source).as_posix().startswith("."))
    files = [path for path in visible if path.is_file() and path.suffix.lower() in _READERS]
    if not files:
        raise DataError(f"the folder {source} holds no data file ({', '.join(_READERS)})", FORMATS_HINT)
    return files


def read_rows(file: Path) -> Iterator[Row | BadRow]:
    """The rows of a file in order. Rows that cannot be read come as BadRow, without ending the file where possible."""
    try:
        if file.stat().st_size == 0:
            yield BadRow(file.name, "the file is empty")
            return
        yield from _READERS[file.suffix.lower()](file)
    except RowError as error:
        yield error.bad_row
    except OSError as error:
        raise DataError(
            f"{file} cannot be read: {error.strerror}", "check that it is readable for this user"
        ) from error


def hash_files(source: Path, files: list[Path]) -> str:
    """SHA-256 over the names (relative to a folder) and contents of the files: the identity of a data set."""
    total = hashlib.sha256()
    for file in files:
        name = file.relative_to(source).as_posix() if source.is_dir() else ""
        with file.open("rb") as stream:
            total.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _decode(data: bytes, origin: str, first_line: int = 1) -> str:
    if b"\0" in data:
        line = first_line + data[: data.index(b"\0")].count(b"\n")
        raise RowError(f"{origin}:{line}", "holds a zero byte: this is a binary file, or text in UTF-16")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + data[: error.start].count(b"\n")
        byte = data[error.start]
        raise RowError(f"{origin}:{line}", f"is not UTF-8 (byte 0x{byte:02x}); convert the file to UTF-8") from None


def _object(value: object, origin: str) -> Row | BadRow:
    if not isinstance(value, dict):
        return BadRow(origin, f'is a JSON {_json_kind(value)} where a row is an object: {{"messages": …}}')
    return Row(origin, value)


def _json_kind(value: object) -> str:
    kinds: dict[type, str] = {list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return kinds.get(type(value), "null")


def _read_jsonl(file: Path) -> Iterator[Row | BadRow]:
    with file.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            line = raw.removeprefix(UTF8_MARK) if number == 1 else raw
            if not line.strip():
                continue
            origin = f"{file.name}:{number}"
            try:
                yield _object(json.loads(_decode(line, file.name, number)), origin)
            except RowError as error:
                yield error.bad_row
                if b"\0" in line:
                    return
            except json.JSONDecodeError as error:
                end = "; the line breaks off" if error.pos >= len(line.decode().rstrip()) else ""
                yield BadRow(origin, f"is not JSON: {error.msg} at column {error.colno}{end}")


def _read_json(file: Path) -> Iterator[Row | BadRow]:
    text = _decode(file.read_bytes().removeprefix(UTF8_MARK), file.name)
    start = len(text) - len(text.lstrip())
    if text[start : start + 1] == "{":
        yield from _read_jsonl(file)
        return
    if text[start : start + 1] != "[":
        raise RowError(f"{file.name}:1", "is neither a JSON list of rows nor JSON lines")
    yield from _read_json_list(text, start + 1, file.name)


def _read_json_list(text: str, index: int, name: str) -> Iterator[Row | BadRow]:
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    index = _skip_space(text, index)
    while text[index : index + 1] != "]":
        line, counted = line + text.count("\n", counted, index), index
        origin = f"{name}:{line}"
        try:
            value, index = decoder.raw_decode(text, index)
        except json.JSONDecodeError as error:
            raise RowError(f"{name}:{error.lineno}", f"is not JSON: {error.msg} at column {error.colno}") from None
        yield _object(value, origin)
        index = _skip_space(text, index)
        if text[index : index + 1] == ",":
            index = _skip_space(text, index + 1)
        elif text[index : index + 1] != "]":
            end_line = 1 + text.count("\n", 0, index)
            reason = (
                "the file breaks off: its list is not closed"
                if index >= len(text)
                else "a comma is missing between rows"
            )
            raise RowError(f"{name}:{end_line}", reason)


def _skip_space(text: str, index: int) -> int:
    while index < len(text) and text[index] in " \t\r\n":
        index += 1
    return index


def _read_csv(file: Path) -> Iterator[Row | BadRow]:
    csv.field_size_limit(sys.maxsize)
    text = _decode(file.read_bytes().removeprefix(UTF8_MARK), file.name)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(reader, [])
    started = reader.line_num + 1
    try:
        for cells in reader:
            origin, started = f"{file.name}:{started}", reader.line_num + 1
            if not cells:
                continue
            if len(cells) != len(header):
                yield BadRow(origin, f"has {len(cells)} columns where the header names {len(header)}")
            else:
                yield Row(origin, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise RowError(f"{file.name}:{started}", f"is not CSV: {error}") from None


def _read_parquet(file: Path) -> Iterator[Row | BadRow]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=1024):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(f"{file.name}:row {number}", fields)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowException, OSError) as error:
        raise RowError(f"{file.name}:row {number + 1}", f"is not Parquet, or breaks off: {error}") from None


_READERS: Final[Mapping[str, Callable[[Path], Iterator[Row | BadRow]]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
