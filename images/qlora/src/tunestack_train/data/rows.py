"""Rows out of JSONL, JSON, CSV and Parquet files, each with the place that it stands at.

Files are read as streams: one row is in memory at a time (of Parquet, one batch of rows), however large
the file.
"""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunestack_train.data.stream import CHUNK, ROW_LIMIT, BrokenFileError, Lines, Text
from tunestack_train.errors import DataError

FORMATS_HINT: Final = "give a JSONL, JSON, CSV or Parquet file, or a folder of them"
_GZIP: Final = ".gz"
_JSON_SPACE: Final = " \t\r\n"


@dataclass(frozen=True)
class Row:
    """One row. `origin` is the file and line that it starts at (`data.jsonl:17`), or its number."""

    origin: str
    fields: Mapping[str, object]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used. `ends_file`: nothing after it can be read either."""

    origin: str
    reason: str
    ends_file: bool = False

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


def find_files(source: Path) -> list[Path]:
    """The data files that `source` is or holds, sorted by name. Raises DataError when there are none."""
    if not source.exists():
        raise DataError(f"there is no file or folder {source}", f"{FORMATS_HINT}; or hub:ID of a data set on the hub")
    if source.is_file():
        if _format(source) not in _READERS:
            raise DataError(
                f"{source} ends in {source.suffix or 'nothing'}, which says nothing about its format",
                f"name it by its format: {', '.join(_READERS)}; the first four also compressed, with {_GZIP} after it",
            )
        return [source]
    visible = (path for path in sorted(source.rglob("*")) if not _hidden(path.relative_to(source)))
    files = [path for path in visible if path.is_file() and _format(path) in _READERS]
    if not files:
        raise DataError(f"the folder {source} holds no data file ({', '.join(_READERS)})", FORMATS_HINT)
    return files


def read_rows(file: Path) -> Iterator[Row | BadRow]:
    """The rows of a file in order. Rows that cannot be read come as BadRow, without ending the file where possible."""
    try:
        if file.stat().st_size == 0:
            yield BadRow(file.name, "the file is empty", ends_file=True)
            return
        yield from _READERS[_format(file)](file)
    except BrokenFileError as error:
        yield BadRow(error.origin, error.reason, ends_file=True)
    except OSError as error:
        raise DataError(
            f"{file} cannot be read: {error.strerror or error}", "check that it is readable for this user"
        ) from error


def hash_files(source: Path, files: list[Path]) -> str:
    """SHA-256 over the names (relative to a folder) and contents of the files: the identity of a data set."""
    total = hashlib.sha256()
    for file in files:
        name = file.relative_to(source).as_posix() if source.is_dir() else ""
        try:
            with file.open("rb") as stream:
                total.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise DataError(
                f"{file} cannot be read: {error.strerror}", "check that it is readable for this user"
            ) from error
    return total.hexdigest()


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _format(file: Path) -> str:
    """The ending that says the format, that of the compression apart; Parquet compresses by itself."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes[-1:] == [_GZIP]:
        return suffixes[-2] if len(suffixes) > 1 and suffixes[-2] != _PARQUET else ""
    return suffixes[-1] if suffixes else ""


@contextmanager
def _opened(file: Path) -> Iterator[io.BufferedIOBase]:
    if file.suffix.lower() != _GZIP:
        with file.open("rb") as stream:
            yield stream
        return
    try:
        with gzip.open(file) as unpacked, io.BufferedReader(unpacked, CHUNK) as stream:
            yield stream
    except gzip.BadGzipFile as error:
        raise BrokenFileError(file.name, f"is not gzip, or was changed after it was compressed: {error}") from None
    except (EOFError, zlib.error) as error:
        raise BrokenFileError(file.name, f"the compressed file breaks off or is damaged: {error}") from None


def _object(value: object, origin: str) -> Row | BadRow:
    if not isinstance(value, dict):
        return BadRow(origin, f'is a JSON {_json_kind(value)} where a row is an object: {{"messages": …}}')
    return Row(origin, value)


def _json_kind(value: object) -> str:
    kinds: dict[type, str] = {list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return kinds.get(type(value), "null")


def _read_jsonl(file: Path) -> Iterator[Row | BadRow]:
    with _opened(file) as stream:
        for number, line in Lines(stream, file.name):
            origin = f"{file.name}:{number}"
            if isinstance(line, str):
                if line.strip():
                    yield _json_line(line, origin)
            else:
                yield BadRow(origin, line.reason)


def _json_line(line: str, origin: str) -> Row | BadRow:
    try:
        return _object(json.loads(line), origin)
    except json.JSONDecodeError as error:
        end = "; the line breaks off" if error.pos >= len(line.rstrip()) else ""
        return BadRow(origin, f"is not JSON: {error.msg} at column {error.colno}{end}")
    except RecursionError:
        return BadRow(origin, "is not usable JSON: it is nested too deeply")


def _read_json(file: Path) -> Iterator[Row | BadRow]:
    with _opened(file) as stream:
        text = Text(stream, file.name)
        text.skip(_JSON_SPACE)
        if text.peek() == "[":
            text.go_to(text.position + 1)
            yield from _read_json_list(text)
            return
        if text.peek() != "{":
            raise BrokenFileError(text.origin, "is neither a JSON list of rows nor JSON lines")
    yield from _read_jsonl(file)


def _read_json_list(text: Text) -> Iterator[Row | BadRow]:
    text.skip(_JSON_SPACE)
    while text.peek() != "]":
        origin = text.origin
        yield _object(_json_value(text), origin)
        text.skip(_JSON_SPACE)
        if text.peek() == ",":
            text.go_to(text.position + 1)
            text.skip(_JSON_SPACE)
        elif text.peek() == "":
            raise BrokenFileError(text.origin, "the file breaks off: its list is not closed")
        elif text.peek() != "]":
            raise BrokenFileError(text.origin, "a comma is missing between rows")


def _json_value(text: Text) -> object:
    """The JSON value that begins here, with as much of the file read as it takes."""
    decoder = json.JSONDecoder()
    while True:
        try:
            value, end = decoder.raw_decode(text.buffer, text.position)
            # A number may go on in what has not been read yet.
            if end < len(text.buffer) or text.at_end:
                text.go_to(end)
                return value
        except json.JSONDecodeError as error:
            if text.at_end or len(text.buffer) - text.position > ROW_LIMIT:
                origin, column = text.place(error.pos)
                torn = "; the file breaks off" if error.pos >= len(text.buffer.rstrip()) else ""
                raise BrokenFileError(origin, f"is not JSON: {error.msg} at column {column}{torn}") from None
        except RecursionError:
            raise BrokenFileError(text.origin, "is not usable JSON: it is nested too deeply") from None
        text.read_more(max(CHUNK, len(text.buffer) - text.position))


def _read_csv(file: Path) -> Iterator[Row | BadRow]:
    csv.field_size_limit(ROW_LIMIT)
    with _opened(file) as stream:
        reader = csv.reader(_whole_lines(stream, file.name), strict=True)
        started = 1
        try:
            header = next(reader, [])
            repeated = {column for column in header if header.count(column) > 1}
            if repeated:
                raise BrokenFileError(f"{file.name}:1", f"the header names {', '.join(sorted(repeated))} twice")
            started = reader.line_num + 1
            for cells in reader:
                origin, started = f"{file.name}:{started}", reader.line_num + 1
                if not cells:
                    continue
                if len(cells) != len(header):
                    yield BadRow(origin, f"has {len(cells)} columns where the header names {len(header)}")
                else:
                    yield Row(origin, dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise BrokenFileError(f"{file.name}:{started}", f"is not CSV: {error}") from None


def _whole_lines(stream: io.BufferedIOBase, name: str) -> Iterator[str]:
    """The lines of a file in which a row may go over several, so that one which cannot be read ends it."""
    for number, line in Lines(stream, name):
        if not isinstance(line, str):
            raise BrokenFileError(f"{name}:{number}", line.reason)
        yield line


def _read_parquet(file: Path) -> Iterator[Row | BadRow]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=256):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(f"{file.name}:row {number}", fields)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BrokenFileError(f"{file.name}:row {number + 1}", f"is not Parquet, or breaks off: {error}") from None


_PARQUET: Final = ".parquet"
_READERS: Final[Mapping[str, Callable[[Path], Iterator[Row | BadRow]]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    _PARQUET: _read_parquet,
}
