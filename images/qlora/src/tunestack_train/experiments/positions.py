"""JSON with the line of every value, for messages that name it.

The standard library's decoder keeps no positions. This one reads the same language, and says more when it cannot: a key
given twice, a comma too many. It is used only to tell problems; what is right is read by `json` itself.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Final

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_WORDS: Final[dict[str, Json]] = {"null": None, "true": True, "false": False}
_DEPTH: Final = 100
_DECODER: Final = json.JSONDecoder()


class BrokenJsonError(ValueError):
    """`reason` says what is wrong at `line`, `column`, both from 1."""

    def __init__(self, reason: str, text: str, position: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = text.count("\n", 0, position) + 1
        self.column = position - text.rfind("\n", 0, position)


@dataclass
class Lines:
    """The line of each value by its path, as `[2].needs[0]`, and the keys that were given twice."""

    of: dict[str, int] = field(default_factory=dict)
    repeated: list[tuple[str, int]] = field(default_factory=list)


def read_with_lines(text: str) -> tuple[Json, Lines]:
    """The value and where its parts stand. Raises BrokenJsonError."""
    reader = _Reader(text)
    value, end = reader.value(reader.skip(0), "", 0)
    end = reader.skip(end)
    if end != len(text):
        raise BrokenJsonError("there is something after the end of the value", text, end)
    return value, reader.lines


def member(path: str, key: str) -> str:
    """Path of a field of what is at `path`."""
    return f"{path}.{key}" if path else key


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self.lines = Lines()
        self._line = 1
        self._counted = 0

    def skip(self, position: int) -> int:
        match = _SPACE.match(self._text, position)
        return match.end() if match else position

    def value(self, position: int, path: str, depth: int) -> tuple[Json, int]:
        text = self._text
        if depth > _DEPTH:
            raise BrokenJsonError("it is nested too deeply", text, position)
        self.lines.of[path] = self._line_of(position)
        character = text[position : position + 1]
        if character == '"':
            return self._string(position)
        if character == "[":
            return self._list(position + 1, path, depth)
        if character == "{":
            return self._object(position + 1, path, depth)
        for word, meaning in _WORDS.items():
            if text.startswith(word, position):
                return meaning, position + len(word)
        number = _NUMBER.match(text, position)
        if number is None:
            raise BrokenJsonError(_expected(character, text, position), text, min(position, len(text)))
        return json.loads(number[0]), number.end()

    def _line_of(self, position: int) -> int:
        # Positions only grow, so each newline is counted once.
        self._line += self._text.count("\n", self._counted, position)
        self._counted = position
        return self._line

    def _string(self, position: int) -> tuple[str, int]:
        try:
            read: tuple[str, int] = _DECODER.raw_decode(self._text, position)
        except json.JSONDecodeError as error:
            raise BrokenJsonError(_text_reason(error.msg), self._text, error.pos) from None
        return read

    def _list(self, position: int, path: str, depth: int) -> tuple[Json, int]:
        values: list[Json] = []
        position = self.skip(position)
        if self._text[position : position + 1] == "]":
            return values, position + 1
        while True:
            value, position = self.value(position, f"{path}[{len(values)}]", depth + 1)
            values.append(value)
            position, closed = self._comma_or(position, "]")
            if closed:
                return values, position

    def _object(self, position: int, path: str, depth: int) -> tuple[Json, int]:
        values: dict[str, Json] = {}
        position = self.skip(position)
        if self._text[position : position + 1] == "}":
            return values, position + 1
        while True:
            if self._text[position : position + 1] != '"':
                raise BrokenJsonError("a field's name in double quotes is missing", self._text, position)
            at = position
            key, position = self._string(position)
            position = self.skip(position)
            if self._text[position : position + 1] != ":":
                raise BrokenJsonError(f'a colon is missing after "{key}"', self._text, position)
            if key in values:
                self.lines.repeated.append((member(path, key), self._line_of(at)))
            values[key], position = self.value(self.skip(position + 1), member(path, key), depth + 1)
            position, closed = self._comma_or(position, "}")
            if closed:
                return values, position

    def _comma_or(self, position: int, closing: str) -> tuple[int, bool]:
        position = self.skip(position)
        character = self._text[position : position + 1]
        if character == closing:
            return position + 1, True
        if character != ",":
            end = "the file ends" if not character else f"{character!r} stands"
            raise BrokenJsonError(f"{end} where a comma or {closing} is missing", self._text, position)
        following = self.skip(position + 1)
        if self._text[following : following + 1] == closing:
            raise BrokenJsonError(f"there is a comma too many before {closing}", self._text, position)
        return following, False


def _expected(character: str, text: str, position: int) -> str:
    if not character:
        return "the file ends where a value is missing"
    if text.startswith(("//", "/*", "#"), position):
        return "JSON has no comments; use the field description"
    if character == "'":
        return "texts are written in double quotes"
    return f"{character!r} stands where a value is missing"


def _text_reason(reason: str) -> str:
    if reason.startswith("Unterminated"):
        return "a text has no closing quote"
    if reason.startswith("Invalid control"):
        return "a text has a line break or another control character in it; write \\n"
    return "a text has a backslash with nothing valid after it; write \\\\ for a backslash"
