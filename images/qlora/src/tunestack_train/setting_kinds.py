"""The kinds of settings: how each is read from text or from a typed value, and what it may be."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tunestack_train.presets import Value


@dataclass(frozen=True)
class Setting:
    """`changes_result`: another value makes another adapter, so a run that has begun keeps the one it has."""

    meaning: str
    read: Callable[[Value], Value]
    """Turns what was given (text of a command line, a preset's typed value) into the value; ValueError says why not."""
    allowed: str
    schema: Mapping[str, Value | list[str]]
    """What `read` takes, in the words of JSON Schema, for those who check settings without this package."""
    changes_result: bool = True


def whole(meaning: str, least: int, most: int, *, changes_result: bool = True) -> Setting:
    def read(value: Value) -> int:
        try:
            if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
                raise ValueError
            number = int(value)
        except (ValueError, OverflowError):
            raise ValueError("is not a whole number") from None
        if not least <= number <= most:
            raise ValueError(f"is not between {least} and {most}")
        return number

    schema: dict[str, Value | list[str]] = {"type": "integer", "minimum": least, "maximum": most}
    return Setting(meaning, read, f"a whole number from {least} to {most}", schema, changes_result)


def real(meaning: str, least: float, most: float, *, above_least: bool = False, changes_result: bool = True) -> Setting:
    def read(value: Value) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise ValueError("is not a number")
        if not least <= number <= most or (above_least and number == least):
            raise ValueError(
                f"is not above {least:g} and up to {most:g}"
                if above_least
                else f"is not between {least:g} and {most:g}"
            )
        return number

    lowest = "exclusiveMinimum" if above_least else "minimum"
    return Setting(
        meaning,
        read,
        f"a number {f'above {least:g} and up' if above_least else f'from {least:g}'} to {most:g}",
        {"type": "number", lowest: least, "maximum": most},
        changes_result,
    )


def flag(meaning: str, *, changes_result: bool = True) -> Setting:
    def read(value: Value) -> bool:
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if isinstance(value, bool):
            return value
        if str(value).lower() not in known:
            raise ValueError("is neither true nor false")
        return known[str(value).lower()]

    return Setting(meaning, read, "true or false", {"type": "boolean"}, changes_result)


def choice(meaning: str, *choices: str, changes_result: bool = True) -> Setting:
    def read(value: Value) -> str:
        if str(value) not in choices:
            raise ValueError("is not one of the choices")
        return str(value)

    return Setting(meaning, read, "one of " + ", ".join(choices), {"enum": list(choices)}, changes_result)


def text(meaning: str, pattern: str, allowed: str, *, changes_result: bool = True) -> Setting:
    def read(value: Value) -> str:
        if not re.fullmatch(pattern, str(value)):
            raise ValueError("cannot be used here")
        return str(value)

    return Setting(meaning, read, allowed, {"type": "string", "pattern": f"^(?:{pattern})$"}, changes_result)
