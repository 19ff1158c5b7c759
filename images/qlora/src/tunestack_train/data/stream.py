"""Text out of files of any size, with the line of whatever is wrong in it."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Final

CHUNK: Final = 1 << 20
ROW_LIMIT: Final = 64 << 20
"""Bytes of the longest row. A file whose rows are longer holds something else than rows of training data."""

_UTF8_MARK: Final = b"\xef\xbb\xbf"
# How files begin that are often given by mistake (https://en.wikipedia.org/wiki/List_of_file_signatures).
_SIGNATURES: Final = (
    (b"\x1f\x8b", "is compressed with gzip; name it so: with .gz at the end"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; unpack it first"),
    (b"BZh", "is compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it first"),
    (b"PK\x03\x04", "is a ZIP archive (as Excel's .xlsx is one); unpack or export it first"),
    (b"PAR1", "is a Parquet file; name it so: .parquet"),
    (b"%PDF", "is a PDF; training data is text in rows"),
    (b"\xff\xfe", "is UTF-16; convert the file to UTF-8"),
    (b"\xfe\xff", "is UTF-16; convert the file to UTF-8"),
)


class BrokenFileError(ValueError):
    """A file that breaks off, or is of another kind: nothing after `origin` can be read."""

    def __init__(self, origin: str, reason: str) -> None:
        super().__init__(f"{origin}: {reason}")
        self.origin = origin
        self.reason = reason


@dataclass(frozen=True)
class Undecodable:
    """A line that is not UTF-8."""

    reason: str


class Lines:
    """The lines of a file with their numbers, from 1. Raises BrokenFileError for what is no text at all."""

    def __init__(self, stream: BufferedIOBase, name: str) -> None:
        self._stream = stream
        self._name = name

    def __iter__(self) -> Iterator[tuple[int, str | Undecodable]]:
        number = 0
        while raw := self._stream.readline(ROW_LIMIT + 1):
            number += 1
            if number == 1:
                raw = _without_mark(raw, self._name)
            if len(raw) > ROW_LIMIT:
                reason = f"is longer than {ROW_LIMIT >> 20} MiB; are there no line breaks between the rows?"
                raise BrokenFileError(f"{self._name}:{number}", reason)
            yield number, _decoded(raw, f"{self._name}:{number}")


def _decoded(raw: bytes, origin: str) -> str | Undecodable:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse_zero_byte(raw, origin)
        return Undecodable(_not_utf8(raw[error.start]))
    if "\0" in text:
        _refuse_zero_byte(raw, origin)
    return text


class Text:
    """The text of a file from a place on: it begins at `position` of `buffer`, which grows by `read_more`."""

    def __init__(self, stream: BufferedIOBase, name: str) -> None:
        self.buffer = ""
        self.position = 0
        self.at_end = False
        self._line = 1
        self._columns_before = 0  # characters of the buffer's first line that are no longer in it
        self._name = name
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._lines_read = 1
        self._decode(_without_mark(stream.read(CHUNK), name))

    @property
    def origin(self) -> str:
        return f"{self._name}:{self._line}"

    def place(self, position: int) -> tuple[str, int]:
        """File and line of a position in the buffer at or after the current one, and the column there, from 1."""
        line = self._line + self.buffer.count("\n", self.position, position)
        start = self.buffer.rfind("\n", 0, position)
        return f"{self._name}:{line}", position - start if start >= 0 else self._columns_before + position + 1

    def peek(self) -> str:
        """The next character; nothing at the end of the file."""
        while self.position >= len(self.buffer) and not self.at_end:
            self.read_more(CHUNK)
        return self.buffer[self.position : self.position + 1]

    def go_to(self, position: int) -> None:
        self._line += self.buffer.count("\n", self.position, position)
        self.position = position

    def skip(self, characters: str) -> None:
        while (following := self.peek()) and following in characters:
            end = self.position
            while end < len(self.buffer) and self.buffer[end] in characters:
                end += 1
            self.go_to(end)

    def read_more(self, size: int) -> None:
        """Adds `size` bytes of the file to the buffer, or sets `at_end`; what lies before the position is dropped."""
        start = self.buffer.rfind("\n", 0, self.position)
        self._columns_before = self.position - start - 1 if start >= 0 else self._columns_before + self.position
        self.buffer = self.buffer[self.position :]
        self.position = 0
        self._decode(self._stream.read(size))

    def _decode(self, raw: bytes) -> None:
        self.at_end = not raw
        zero = raw.find(b"\0")
        if zero >= 0:
            line = self._lines_read + raw[:zero].count(b"\n")
            _refuse_zero_byte(raw, f"{self._name}:{line}")
        try:
            self.buffer += self._decoder.decode(raw, final=self.at_end)
        except UnicodeDecodeError as error:
            line = self._lines_read + error.object[: error.start].count(b"\n")
            raise BrokenFileError(f"{self._name}:{line}", _not_utf8(error.object[error.start])) from None
        self._lines_read += raw.count(b"\n")


def _without_mark(start: bytes, name: str) -> bytes:
    """The beginning of a file without the mark of UTF-8; BrokenFileError when it is that of another kind of file."""
    for signature, reason in _SIGNATURES:
        if start.startswith(signature):
            raise BrokenFileError(f"{name}:1", reason)
    return start.removeprefix(_UTF8_MARK)


def _refuse_zero_byte(raw: bytes, origin: str) -> None:
    if b"\0" in raw:
        raise BrokenFileError(origin, "holds a zero byte: this is a binary file, or text in UTF-16")


def _not_utf8(byte: int) -> str:
    return f"is not UTF-8 (byte 0x{byte:02x}); convert the file to UTF-8"
