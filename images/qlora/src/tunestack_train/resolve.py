"""One frozen config out of layers: each layer is put over those before it, and every value knows where it came from.

The order, later over earlier: defaults, preset, files of `--config` as they are given, environment
(`TUNESTACK_SET_<KEY>`), command line (`--model`, `--data`, `--name`, `--preset`), `--set`.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final

from tunestack_train.errors import Problem, SettingsProblems
from tunestack_train.presets import DEFAULTS, PRESETS, Value
from tunestack_train.settings import SETTINGS, RunConfig, build, contradictions

_PRESET_NAMES: Final = tuple(PRESETS)
_CUSTOM: Final = "custom"


@dataclass(frozen=True)
class Layer:
    """Values from one place. `source` names the place for people, for example `preset gemma-2b` or `--set`.

    `places` says of single values where exactly they stand, such as `run.yaml:3`. `problems` are those of reading it.
    """

    source: str
    values: Mapping[str, Value]
    places: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def place(self, key: str) -> str:
        return self.places.get(key, self.source)


@dataclass(frozen=True)
class Resolved:
    """`sources` says of each setting where its value came from."""

    config: RunConfig
    sources: Mapping[str, str]


def resolve(name: str | None, preset: str | None, layers: Sequence[Layer]) -> Resolved:
    """Puts the layers over the preset. Raises SettingsProblems with everything that is wrong, not only the first.

    `name` and `preset` are those of the command line; None leaves them to the layers.
    """
    given = {key: value for key, value in (("name", name), ("preset", preset)) if value is not None}
    layers = [*layers, Layer("command line", given)]
    problems = [problem for layer in layers for problem in layer.problems]
    chosen, place = _chosen_preset(layers)
    if chosen not in PRESETS:
        where = "" if place == "command line" else f" ({place})"
        problems.append(_choice_problem("preset", chosen, f"is not a preset{where}", _PRESET_NAMES))
    start = [
        Layer("default", {**DEFAULTS, "preset": _CUSTOM}),
        Layer(f"preset {chosen}", PRESETS.get(chosen, {})),
    ]
    sources: dict[str, str] = {}
    values: dict[str, Value] = {}
    for layer in [*start, *layers]:
        for key, value in layer.values.items():
            if key not in SETTINGS:
                reason = f"is not a setting ({layer.place(key)})"
                problems.append(_choice_problem(key, repr(value), reason, tuple(SETTINGS), key))
                continue
            try:
                values[key] = SETTINGS[key].read(value)
            except ValueError as error:
                problems.append(_unreadable(key, value, str(error), layer.place(key)))
                values[key] = value
            sources[key] = layer.place(key)
    problems += _missing(values, preset_problem=chosen not in PRESETS)
    if not problems:
        problems += contradictions(values)
    if problems:
        raise SettingsProblems(problems)
    return Resolved(build(values), {entry.name: sources[entry.name] for entry in fields(RunConfig)})


def _chosen_preset(layers: Sequence[Layer]) -> tuple[str, str]:
    for layer in reversed(layers):
        if "preset" in layer.values:
            return str(layer.values["preset"]), layer.place("preset")
    return _CUSTOM, "default"


def _missing(values: Mapping[str, Value], *, preset_problem: bool) -> list[Problem]:
    problems: list[Problem] = []
    if "name" not in values:
        problems.append(Problem("name", "not set", "the run has no name", f"give --name: {SETTINGS['name'].allowed}"))
    if "data" not in values:
        problems.append(
            Problem("data", "not set", "there is nothing to train on", f"give --data {SETTINGS['data'].allowed}")
        )
    if "model" not in values and not preset_problem:
        remedy = f"give --model {SETTINGS['model'].allowed}; or --preset {', '.join(_PRESET_NAMES[:-1])}"
        problems.append(Problem("model", "not set", "there is no model to train", remedy))
    return problems


def _unreadable(key: str, value: Value, reason: str, place: str) -> Problem:
    setting = SETTINGS[key]
    return Problem(key, repr(value), f"{reason} ({setting.meaning}; from {place})", f"give {setting.allowed}")


def _choice_problem(path: str, value: str, reason: str, choices: tuple[str, ...], wrong: str | None = None) -> Problem:
    close = difflib.get_close_matches(wrong or value, choices, n=1)
    remedy = f"did you mean {close[0]}? " if close else ""
    return Problem(path, value, reason, f"{remedy}There are: {', '.join(choices)}")
