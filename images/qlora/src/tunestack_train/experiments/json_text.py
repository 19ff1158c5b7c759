"""JSON as JavaScript writes it, so that the runner and the laptop's commands give the same bytes."""

import json
from json.encoder import encode_basestring
from typing import Final

from tunestack_train.experiments.positions import Json

_EXACT: Final = 1 << 53


def read(text: str) -> Json:
    """The value of a text. Numbers without a fraction are whole numbers however they are written. Raises ValueError."""
    value: Json = json.loads(text, parse_float=_number, parse_constant=_no_constant)
    return value


def indented(value: Json, depth: int = 0) -> str:
    """As `JSON.stringify(value, null, 2)`."""
    inner, outer = "\n" + "  " * (depth + 1), "\n" + "  " * depth
    if isinstance(value, dict) and value:
        fields = (f"{encode_basestring(key)}: {indented(one, depth + 1)}" for key, one in value.items())
        return "{" + inner + f",{inner}".join(fields) + outer + "}"
    if isinstance(value, list) and value:
        return "[" + inner + f",{inner}".join(indented(one, depth + 1) for one in value) + outer + "]"
    return _plain(value)


def canonical(value: Json) -> str:
    """Compact and with sorted keys: equal for equal values."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{encode_basestring(key)}:{canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    return _plain(value)


def number_text(value: float) -> str:
    """A number as JavaScript writes it: `1`, `0.0001`, `1e-7`.

    Source: ECMAScript, Number::toString. Python's `repr` finds the same shortest digits and sets them out otherwise.
    """
    number = float(value)
    if number == 0:
        return "0"
    mantissa, _, exponent = f"{abs(number)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    leading = whole + ("" if fraction == "0" else fraction)
    digits = leading.lstrip("0")
    point = len(whole) + int(exponent or "0") - (len(leading) - len(digits))
    return ("-" if number < 0 else "") + _set_out(digits.rstrip("0"), point)


def _set_out(digits: str, point: int) -> str:
    count = len(digits)
    if count <= point <= 21:
        return digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    exponent = point - 1
    rest = f".{digits[1:]}" if count > 1 else ""
    return f"{digits[0]}{rest}e{'-' if exponent < 0 else '+'}{abs(exponent)}"


def _plain(value: Json) -> str:
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return number_text(value)
    return "{}" if isinstance(value, dict) else "[]"


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large for a number")
    return int(value) if value.is_integer() and abs(value) < _EXACT else value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
