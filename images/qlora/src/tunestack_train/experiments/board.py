"""What is to be run, as one commit of the branch has it, and changes of it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from tunestack_train.experiments.format import (
    DEFAULT_TIMEOUT,
    ENDS,
    FILE,
    RUN_FIELDS,
    Entry,
    as_entries,
    check,
    matrix_of,
)
from tunestack_train.experiments.format import Problem as FileProblem
from tunestack_train.experiments.matrix import Scalar, expand
from tunestack_train.experiments.merge import attempt_number, merge
from tunestack_train.experiments.positions import Json

Attempt = dict[str, Json]
_SUMMARY: Final = ("failed", "timeout", "error", "cancelled")


@dataclass(frozen=True)
class Item:
    """An experiment, or a child of a matrix: what is run as one."""

    name: str
    parent: str | None
    values: Mapping[str, Scalar]
    entry: Entry = field(repr=False)
    status: str
    attempt: Mapping[str, Json]
    needs: tuple[str, ...]
    timeout: int
    gpus: int
    retries: int

    @property
    def number(self) -> int:
        """Attempts so far."""
        return attempt_number({"attempt": dict(self.attempt)})

    def count(self, key: str) -> int:
        """A counter of the attempt, 0 where there is none."""
        value = self.attempt.get(key)
        return value if isinstance(value, int) else 0

    @property
    def is_run(self) -> bool:
        """Whether it is a run of tunestack and no command."""
        return "command" not in self.entry

    @property
    def run_fields(self) -> dict[str, Json]:
        """Preset, model, data and set of a run of tunestack."""
        return {key: self.entry[key] for key in RUN_FIELDS if key in self.entry}


@dataclass(frozen=True)
class Change:
    """A new status and attempt of an item, made to `entry` as it was seen before."""

    status: str
    attempt: Attempt
    entry: Entry


@dataclass(frozen=True)
class Trouble:
    """Problems of the file as a runner reports them: the first in words, and where each is."""

    message: str
    remedy: str
    where: Mapping[str, Json]


class Board:
    """The experiments of one commit. `entries` is None where the file is missing or cannot be read as a list."""

    def __init__(self, commit: str, text: str | None) -> None:
        checked = check(text if text is not None else "[]")
        self.commit = commit
        self.missing = text is None
        self.entries = checked.entries
        self.problems: tuple[FileProblem, ...] = checked.problems
        self.items: dict[str, Item] = {}
        self.members: dict[str, tuple[str, ...]] = {}
        for index, entry in as_entries(checked.entries or []):
            if index not in checked.unusable:
                self._add(entry)

    def _add(self, entry: Entry) -> None:
        name, matrix = cast("str", entry["name"]), matrix_of(entry)
        if matrix is None:
            self.items[name] = _item(name, None, {}, entry, entry)
            self.members[name] = (name,)
            return
        children = cast("Entry", entry.get("children", {}))
        cancelled: Entry = {"status": "cancelled"} if entry.get("status") == "cancelled" else {}
        names = []
        for child in expand(name, matrix):
            state = cast("Entry", children.get(child.name, {}))
            if cancelled and state.get("status", "pending") not in ENDS:
                state = state | cancelled
            self.items[child.name] = _item(child.name, name, child.values, entry, state)
            names.append(child.name)
        self.members[name] = tuple(names)

    def trouble(self) -> Trouble | None:
        """What there is to say of the file as it is; None where all is well."""
        if self.missing:
            where: dict[str, Json] = {"path": "", "line": 1, "all": []}
            return Trouble(f"there is no {FILE}", f"add {FILE}, a list of experiments", where)
        if not self.problems:
            return None
        first, more = self.problems[0], len(self.problems) - 1
        place = f"{FILE}:{first.line} {first.path}".rstrip()
        message = f"{place} {first.reason}" + (f", and {more} more" if more else "")
        problems: list[Json] = [dict(problem.as_dict()) for problem in self.problems[:20]]
        return Trouble(message, first.remedy, {"path": first.path, "line": first.line, "all": problems})

    def unmet(self, item: Item) -> list[Item]:
        """What it needs and is not completed."""
        needed = (name for need in item.needs for name in self.members.get(need, (need,)))
        return [self.items[name] for name in needed if name in self.items and self.items[name].status != "completed"]

    def ready(self, item: Item) -> bool:
        """Whether all that it needs is there and completed."""
        known = all(need in self.members or need in self.items for need in item.needs)
        return known and not self.unmet(item)

    def hopeless(self, item: Item) -> Item | None:
        """What it needs that has ended otherwise than completed; None while there is hope."""
        return next((need for need in self.unmet(item) if need.status in ENDS), None)

    def changed(self, changes: Mapping[str, Change]) -> list[Json]:
        """The file with these changes merged into it, and everything else as it was.

        An experiment that was removed from the file meanwhile comes back.
        """
        entries = copy.copy(self.entries or [])
        places: dict[str, int] = {}
        for index, entry in as_entries(entries):
            places.setdefault(str(entry.get("name")), index)
        for name, change in changes.items():
            parent = cast("str", change.entry["name"])
            here = entries[places[parent] : places[parent] + 1] if parent in places else []
            after = _after(name, change)
            merged = (merge([change.entry], [after], here).entries or [after])[0]
            if parent in places:
                entries[places[parent]] = merged
            else:
                places[parent] = len(entries)
                entries.append(merged)
        for parent in {cast("str", one.entry["name"]) for name, one in changes.items() if name != one.entry["name"]}:
            index = places[parent]
            entries[index] = _summarised(cast("Entry", entries[index]))
        return entries


def _after(name: str, change: Change) -> Entry:
    state: Entry = {"status": change.status, "attempt": dict(change.attempt)}
    if name == change.entry["name"]:
        return change.entry | state
    children = cast("Entry", change.entry.get("children") or {})
    return change.entry | {"children": children | {name: cast("Entry", children.get(name) or {}) | state}}


def _item(name: str, parent: str | None, values: Mapping[str, Scalar], entry: Entry, state: Entry) -> Item:
    return Item(
        name,
        parent,
        values,
        entry,
        cast("str", state.get("status", "pending")),
        cast("Mapping[str, Json]", state.get("attempt", {})),
        tuple(cast("list[str]", entry.get("needs", []))),
        cast("int", entry.get("timeout", DEFAULT_TIMEOUT)),
        cast("int", entry.get("gpus", 1)),
        cast("int", entry.get("retries", 0)),
    )


def _summarised(entry: Entry) -> Entry:
    """The entry of a matrix with the status that its children give it. What a person cancelled stays so."""
    if entry.get("status") == "cancelled":
        return entry
    children = cast("dict[str, Entry]", entry["children"])
    names = [child.name for child in expand(cast("str", entry["name"]), matrix_of(entry) or {})]
    statuses = [str(children.get(name, {}).get("status", "pending")) for name in names]
    if all(status == "pending" for status in statuses):
        summary = "pending"
    elif any(status not in ENDS for status in statuses):
        summary = "running"
    else:
        summary = next((status for status in _SUMMARY if status in statuses), "completed")
    return entry | {"status": summary}
