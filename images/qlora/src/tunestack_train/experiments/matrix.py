"""Sweeps: the children of an experiment with a `matrix`, their names and their commands."""

import hashlib
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tunestack_train.experiments.json_text import number_text

Scalar = str | int | float | bool

NAME: Final = re.compile(r"(?!.*\.\.)(?!.*\.lock$)[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9_-])?")
KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PARENT_LENGTH: Final = 50
CHILDREN: Final = 1000

_PLACEHOLDER: Final = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class Child:
    """One combination: its name, and the values by key in the order of the file."""

    name: str
    values: Mapping[str, Scalar]


def is_name(text: str) -> bool:
    """Whether an experiment can have this name, which becomes a part of a ref and of folders."""
    return NAME.fullmatch(text) is not None


def scalar_text(value: Scalar) -> str:
    """The value as the command sees it, and as it stands in the child's name."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    return number_text(value)


def expand(parent: str, matrix: Mapping[str, Sequence[Scalar]]) -> Iterator[Child]:
    """The children in order, the last key changing fastest. The matrix has passed its checks."""
    for combination in itertools.product(*matrix.values()):
        values = dict(zip(matrix, combination, strict=True))
        yield Child(child_name(parent, values), values)


def child_name(parent: str, values: Mapping[str, Scalar]) -> str:
    """Readable where that is a valid name, else with a hash of the values."""
    readable = ".".join([parent, *(f"{key}-{scalar_text(value)}" for key, value in values.items())])
    if is_name(readable):
        return readable
    lines = "".join(f"{key}={scalar_text(value)}\n" for key, value in values.items())
    return f"{parent}.{hashlib.sha256(lines.encode()).hexdigest()[:12]}"


def fill_in(command: str, values: Mapping[str, Scalar]) -> str:
    """The command with `{key}` replaced by its value, quoted for the shell; other braces stay."""

    def replacement(match: re.Match[str]) -> str:
        key = match[1]
        return shlex.quote(scalar_text(values[key])) if key in values else match[0]

    return _PLACEHOLDER.sub(replacement, command)
