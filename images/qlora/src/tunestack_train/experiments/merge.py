"""Three-way merging of `experiments.json`, by experiment and within it by field. Whichever side is called ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tunestack_train.experiments.format import Entry
from tunestack_train.experiments.json_text import canonical
from tunestack_train.experiments.positions import Json

_RANK: Final = ("pending", "running", "cancelled", "error", "timeout", "failed", "completed")
_STATE: Final = ("status", "attempt")


@dataclass(frozen=True)
class Conflict:
    """A field that both sides changed, to different values. `path` is `NAME.FIELD`; a removed field is None."""

    path: str
    ours: Json
    theirs: Json
    kept: Json


@dataclass(frozen=True)
class Merged:
    entries: list[Json]
    conflicts: tuple[Conflict, ...]


def merge(base: list[Json], ours: list[Json], theirs: list[Json]) -> Merged:
    """All experiments of both sides, less those that one side removed and the other left alone."""
    olds, lefts, rights = _by_name(base), _by_name(ours), _by_name(theirs)
    conflicts: list[Conflict] = []
    entries: list[Json] = []
    for name in _order(list(olds), list(lefts), list(rights)):
        old, left, right = olds.get(name), lefts.get(name), rights.get(name)
        if left is not None and right is not None:
            entries.append(_merge_entry(name, old, left, right, conflicts))
        elif left is not None and left != old:
            entries.append(left)
        elif right is not None and right != old:
            entries.append(right)
    return Merged(entries, tuple(conflicts))


def _by_name(entries: list[Json]) -> dict[str, Json]:
    """Each experiment under its name. What has none, or one that is taken, stands for itself by its content."""
    found: dict[str, Json] = {}
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        key = name if isinstance(name, str) else f"\0{canonical(entry)}"
        while key in found:
            key = f"{key}\0"
        found[key] = entry
    return found


def _merge_entry(name: str, old: Json, left: Json, right: Json, conflicts: list[Conflict]) -> Json:
    if not isinstance(left, dict) or not isinstance(right, dict):
        return left
    before = old if isinstance(old, dict) else {}
    fields = {key: _merge_field(name, key, before, (left, right), conflicts) for key in _keys(before, left, right)}
    fields |= _merge_state(before, left, right)
    if "children" in left or "children" in right:
        fields["children"] = _merge_children(before, left, right)
    return {key: value for key, value in fields.items() if not isinstance(value, _Absent)}


class _Absent:
    pass


_ABSENT: Final = _Absent()


def _keys(before: Entry, left: Entry, right: Entry) -> list[str]:
    return _order(list(before), list(left), list(right))


def _merge_field(
    name: str, key: str, old: Entry, sides: tuple[Entry, Entry], conflicts: list[Conflict]
) -> "Json | _Absent":
    before, left, right = (side.get(key, _ABSENT) for side in (old, *sides))
    if key in _STATE or key == "children" or _same(left, right) or _same(right, before):
        return left
    if _same(left, before):
        return right
    kept = max((value for value in (left, right) if not isinstance(value, _Absent)), key=canonical)
    shown = [None if isinstance(value, _Absent) else value for value in (left, right, kept)]
    conflicts.append(Conflict(f"{name.rstrip(chr(0))}.{key}", shown[0], shown[1], shown[2]))
    return kept


def _merge_state(old: Entry, left: Entry, right: Entry) -> "dict[str, Json | _Absent]":
    before, ours, theirs = (_state(side) for side in (old, left, right))
    if _same(ours, before) or _same(theirs, before):
        chosen = theirs if _same(ours, before) else ours
    else:
        weaker, chosen = sorted((ours, theirs), key=_strength)
        if weaker.get("status") == "cancelled" and chosen.get("status") in {"pending", "running"}:
            chosen = chosen | {"status": "cancelled"}
    return {key: chosen.get(key, _ABSENT) for key in _STATE if any(key in side for side in (old, left, right))}


def _merge_children(old: Entry, left: Entry, right: Entry) -> Json:
    before, ours, theirs = (_children(side) for side in (old, left, right))
    merged: dict[str, Json] = {}
    for name in _order(list(before), list(ours), list(theirs)):
        sides = [side[name] for side in (ours, theirs) if name in side]
        if not sides:
            continue
        earlier = before.get(name, {})
        fields: dict[str, Json] = {}
        ignored: list[Conflict] = []
        one, other = sides[0], sides[-1]
        for key in _keys(earlier, one, other):
            value = _merge_field(name, key, earlier, (one, other), ignored)
            if not isinstance(value, _Absent):
                fields[key] = value
        for key, value in _merge_state(earlier, one, other).items():
            fields.pop(key, None)
            if not isinstance(value, _Absent):
                fields[key] = value
        merged[name] = fields
    return merged


def _state(entry: Entry) -> Entry:
    return {key: entry[key] for key in _STATE if key in entry}


def _children(entry: Entry) -> dict[str, Entry]:
    children = entry.get("children")
    if not isinstance(children, dict):
        return {}
    return {name: child for name, child in children.items() if isinstance(child, dict)}


def _strength(state: Mapping[str, Json]) -> tuple[int, int, str]:
    status = state.get("status", "pending")
    return attempt_number(state), _RANK.index(status) if status in _RANK else -1, canonical(dict(state))


def attempt_number(entry: Mapping[str, Json]) -> int:
    """How many attempts there were; 0 before the first."""
    attempt = entry.get("attempt")
    number = attempt.get("number") if isinstance(attempt, dict) else None
    return number if isinstance(number, int) else 0


def _order(base: list[str], left: list[str], right: list[str]) -> list[str]:
    """Names of both sides and of base, in the order of the side that changed it."""
    if base in (left, right):
        return _placed(right if left == base else left, base)
    known = set(base)
    changed = [side for side in (left, right) if _known(side, known) != _known(base, set(side))]
    leading = changed[0] if len(changed) == 1 else base
    fresh = sorted(([name for name in side if name not in known] for side in (left, right)), key=list)
    return _placed(_known(leading, known), base) + list(dict.fromkeys(fresh[0] + fresh[1]))


def _known(names: list[str], known: set[str]) -> list[str]:
    return [name for name in names if name in known]


def _placed(order: list[str], base: list[str]) -> list[str]:
    """`order`, with what only base has set behind what stands before it there."""
    result = list(order)
    have = set(order)
    for place, name in enumerate(base):
        if name not in have:
            before = next((one for one in reversed(base[:place]) if one in have), None)
            result.insert(0 if before is None else result.index(before) + 1, name)
            have.add(name)
    return result


def _same(one: "Json | _Absent", other: "Json | _Absent") -> bool:
    if isinstance(one, _Absent) or isinstance(other, _Absent):
        return one is other
    return one is other or canonical(one) == canonical(other)
