"""What an experiment runs: its command, or a run of tunestack; and what of it the environment tells."""

import sys
from collections.abc import Sequence

from tunestack_train.experiments.board import Item
from tunestack_train.experiments.matrix import fill_in, scalar_text

_OWN_OPTIONS = ("preset", "model", "data")


def command_of(item: Item) -> str | Sequence[str]:
    """A text for the shell, or the arguments of `tunestack-train run`."""
    command = item.entry.get("command")
    if isinstance(command, str):
        return fill_in(command, item.values)
    fields = item.run_fields
    settings = fields.pop("set", {})
    options = {key: str(value) for key, value in fields.items()}
    assigned = dict(settings) if isinstance(settings, dict) else {}
    for key, value in item.values.items():
        if key in _OWN_OPTIONS:
            options[key] = scalar_text(value)
        else:
            assigned[key] = value
    given = [f"--{key}={value}" for key, value in options.items()]
    given += [
        f"--set={key}={scalar_text(value)}" for key, value in assigned.items() if isinstance(value, str | int | float)
    ]
    return [sys.executable, "-m", "tunestack_train", "run", f"--name={item.name}", *given]


def environment_of(item: Item, number: int) -> dict[str, str]:
    """The attempt, and the values of a child by `EXPERIMENT_KEY`."""
    values = {f"EXPERIMENT_{key.upper()}": scalar_text(value) for key, value in item.values.items()}
    return values | {"EXPERIMENT_ATTEMPT": str(number)}
