"""Where a person sets values: files, the environment, `--set`. Each becomes a layer, with what is wrong in it."""

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestack_train.errors import Problem
from tunestack_train.presets import Value
from tunestack_train.resolve import Layer

if TYPE_CHECKING:
    import yaml

ENVIRONMENT_PREFIX: Final = "TUNESTACK_SET_"

_Entry = tuple[str, object, str]
"""A key, its value, and the place it stands at."""


def assignments_layer(assignments: Sequence[str]) -> Layer:
    """The layer of `--set key=value`; of a key that is given twice the last counts."""
    values: dict[str, Value] = {}
    problems: list[Problem] = []
    for text in assignments:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals:
            example = "write --set key=value, for example --set max_steps=200"
            problems.append(Problem("--set", repr(text), "has no `=`", example))
        elif key in ("name", "preset"):
            problems.append(Problem(key, repr(value), "cannot be given by --set", f"write --{key} {value}"))
        else:
            values[key] = value
    return Layer("--set", values, problems=tuple(problems))


def environment_layer(environment: Mapping[str, str]) -> Layer:
    """The layer of `TUNESTACK_SET_<KEY>`, the key in capitals. A variable that is empty counts as not set."""
    given = {name: value for name, value in sorted(environment.items()) if name.startswith(ENVIRONMENT_PREFIX)}
    keys = {name.removeprefix(ENVIRONMENT_PREFIX).lower(): name for name, value in given.items() if value}
    return Layer("environment", {key: given[name] for key, name in keys.items()}, keys)


def file_layer(path: Path) -> Layer:
    """The layer of a YAML, JSON or TOML file: one object of settings, without nesting."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        remedy = f"name it by its format: {', '.join(_READERS)}"
        return _unread(path, f"ends in {path.suffix or 'nothing'}, which says nothing about its format", remedy)
    try:
        entries = reader(path, path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        return _unread(path, f"cannot be read: {error.strerror}", "give the path of a file that this user can read")
    except UnicodeDecodeError as error:
        return _unread(path, f"is not UTF-8 (byte 0x{error.object[error.start]:02x})", "convert the file to UTF-8")
    except _FileError as error:
        return _unread(path, str(error), "write one `key: value` for each setting, in the format that its name ends in")
    return _checked(path, entries)


class _FileError(ValueError):
    """What makes a whole file unreadable, with the line."""


def _unread(path: Path, reason: str, remedy: str) -> Layer:
    return Layer(str(path), {}, problems=(Problem("--config", str(path), reason, remedy),))


def _checked(path: Path, entries: list[_Entry]) -> Layer:
    values: dict[str, Value] = {}
    places: dict[str, str] = {}
    problems: list[Problem] = []
    for key, given, place in entries:
        value = _plain(given)
        if key in values:
            reason = f"is given twice: by {places[key]} and by {place}"
            problems.append(Problem(key, repr(given), reason, "leave one of them"))
        elif value is None:
            reason = f"is no plain value but {_kind(given)} ({place})"
            problems.append(Problem(key, repr(given), reason, "give text, a number, true or false; or leave it out"))
        else:
            values[key], places[key] = value, place
    return Layer(str(path), values, places, tuple(problems))


def _plain(given: object) -> Value | None:
    """A list of names is written with commas elsewhere, so it may be a list here."""
    if isinstance(given, str | int | float | bool):
        return given
    if isinstance(given, list) and given and all(isinstance(part, str) for part in given):
        return ",".join(given)
    return None


def _kind(given: object) -> str:
    if given is None:
        return "nothing"
    if isinstance(given, dict | tuple):
        return "an object"
    return "a list" if isinstance(given, list) else type(given).__name__


def _read_json(path: Path, text: str) -> list[_Entry]:
    try:
        pairs = json.loads(text, object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        raise _FileError(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    if not text.lstrip().startswith("{"):
        raise _FileError("is not one JSON object of settings")
    return [(str(key), value, str(path)) for key, value in pairs]


def _read_toml(path: Path, text: str) -> list[_Entry]:
    try:
        return [(key, value, str(path)) for key, value in tomllib.loads(text).items()]
    except tomllib.TOMLDecodeError as error:
        raise _FileError(f"is not TOML: {error}") from None


def _read_yaml(path: Path, text: str) -> list[_Entry]:
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            raise _FileError("is not one YAML mapping of settings")
        return [_yaml_entry(path, key, value) for key, value in node.value]
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" at line {error.problem_mark.line + 1}"
        raise _FileError(f"is not YAML: {error.problem}{line}") from None
    except yaml.YAMLError as error:
        raise _FileError(f"is not YAML: {error}") from None


def _yaml_entry(path: Path, key: "yaml.Node", value: "yaml.Node") -> _Entry:
    import yaml

    loader = yaml.SafeLoader("")
    place = f"{path}:{key.start_mark.line + 1}"
    # 1e-4 is text to YAML 1.1 and a number to everybody else; a setting reads numbers from text as well.
    return str(loader.construct_object(key, deep=True)), loader.construct_object(value, deep=True), place


_READERS: Final[Mapping[str, Callable[[Path, str], list[_Entry]]]] = {
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".json": _read_json,
    ".toml": _read_toml,
}
