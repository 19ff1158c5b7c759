"""`experiments.json`: its fields, and everything that is wrong with one. See docs/experiment-queue.md."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Final, cast

from tunestack_train.experiments.json_text import canonical, indented, read
from tunestack_train.experiments.matrix import CHILDREN, KEY, PARENT_LENGTH, Scalar, expand, is_name, scalar_text
from tunestack_train.experiments.positions import BrokenJsonError, Json, member, read_with_lines

FILE: Final = "experiments.json"
RESULTS_FOLDER: Final = "experiment-results"
STATUSES: Final = ("pending", "running", "completed", "failed", "timeout", "error", "cancelled")
ENDS: Final = frozenset(STATUSES[2:])
RUN_FIELDS: Final = ("preset", "model", "data", "set")
FIELDS: Final = (
    *("name", "command", *RUN_FIELDS, "status", "timeout", "description"),
    *("needs", "matrix", "gpus", "retries", "attempt", "children"),
)
DEFAULT_TIMEOUT: Final = 3600
_LONGEST: Final = 2_592_000

Entry = dict[str, Json]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the file. `code` is for programs, `path` as `[2].needs[0]`, `line` from 1."""

    code: str
    path: str
    line: int
    value: str
    reason: str
    remedy: str

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)

    def __str__(self) -> str:
        value = f" = {self.value}" if self.value else ""
        return f"{FILE}:{self.line} {self.path}{value}\n    {self.reason}\n    {self.remedy}"


@dataclass(frozen=True)
class Checked:
    """What a text holds. `entries` is None when it cannot be read as a list; `unusable` are the indexes not to run."""

    entries: list[Json] | None
    problems: tuple[Problem, ...]
    unusable: frozenset[int]


@dataclass(frozen=True)
class _Finding:
    code: str
    path: str
    value: str
    reason: str
    remedy: str


def check(text: str) -> Checked:
    """Reads the file and finds all that is wrong with it, in the order of its lines. Never raises."""
    try:
        entries = read(text)
    except (ValueError, RecursionError):
        return Checked(None, (_broken(text),), frozenset())
    if not isinstance(entries, list):
        finding = _Finding("list", "", _short(entries), "the file is no list", "write the experiments in [ and ]")
        return Checked(None, (_placed(finding, {"": 1}),), frozenset())
    findings = [finding for index, entry in enumerate(entries) for finding in _check_entry(entry, f"[{index}]")]
    findings += _check_names(entries)
    findings += _check_needs(entries, {_index(finding.path) for finding in findings})
    # A key that is given twice is silently its last value, so it is looked for where the text can have one.
    lines = read_with_lines(text)[1] if findings or _may_repeat(text, entries) else None
    if lines is None:
        return Checked(entries, (), frozenset())
    problems = [_placed(finding, lines.of) for finding in findings]
    problems += [
        Problem("repeated", path, line, "", "this field is given twice", "keep one of the two")
        for path, line in lines.repeated
    ]
    unusable = frozenset(_index(problem.path) for problem in problems)
    return Checked(entries, tuple(sorted(problems, key=lambda one: (one.line, one.path))), unusable)


def write(entries: list[Json]) -> str:
    """The file as both sides write it."""
    return indented(entries) + "\n"


def as_entries(values: list[Json]) -> Iterator[tuple[int, Entry]]:
    """The objects of the list, with their places in it."""
    return ((index, value) for index, value in enumerate(values) if isinstance(value, dict))


def matrix_of(entry: Mapping[str, Json]) -> dict[str, list[Scalar]] | None:
    """The matrix of an experiment that has passed its checks."""
    return cast("dict[str, list[Scalar]] | None", entry.get("matrix"))


def _broken(text: str) -> Problem:
    try:
        read_with_lines(text)
    except BrokenJsonError as error:
        return Problem(
            *("syntax", "", error.line, f"column {error.column}", f"the file is no JSON: {error.reason}"),
            "correct it, then push again; running experiments are not touched",
        )
    return Problem("syntax", "", 1, "", "the file is no JSON", "correct it, then push again")


def _may_repeat(text: str, entries: list[Json]) -> bool:
    counts = Counter(key for _, entry in as_entries(entries) for key in entry)
    return any(text.count(f'"{key}"') > count for key, count in counts.items())


def _placed(finding: _Finding, lines: Mapping[str, int]) -> Problem:
    path = finding.path
    while path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return Problem(finding.code, finding.path, lines[path], finding.value, finding.reason, finding.remedy)


def _index(path: str) -> int:
    return int(path[1 : path.index("]")]) if path.startswith("[") else -1


def _short(value: Json) -> str:
    text = canonical(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _check_entry(entry: Json, path: str) -> Iterator[_Finding]:
    if not isinstance(entry, dict):
        yield _Finding("object", path, _short(entry), "an experiment is an object", 'write {"name": …, "command": …}')
        return
    yield from _check_what_runs(entry, path)
    for key, value in entry.items():
        if key in _CHECKS:
            yield from _CHECKS[key](value, member(path, key))
    for key in (key for key in entry if key not in FIELDS):
        # An unknown field is allowed; one that is nearly a known field of which there is none is a slip.
        meant = next((field for field in FIELDS if field not in entry and _one_slip(key, field)), None)
        if meant is not None:
            reason = f"is no field, and looks like {meant}"
            yield _Finding("misspelt", member(path, key), "", reason, f"write {meant}, or give it another name")


def _one_slip(text: str, word: str) -> bool:
    """Whether one letter added, left out or changed, or two neighbours swapped, makes `word` of `text`."""
    if text == word or abs(len(text) - len(word)) > 1:
        return False
    place = next((index for index, (one, other) in enumerate(zip(text, word, strict=False)) if one != other), None)
    if place is None:
        return True
    rest, due = text[place:], word[place:]
    swapped = rest[1::-1] == due[:2] and rest[2:] == due[2:] and len(rest) > 1
    return swapped or rest[1:] == due[1:] or rest[1:] == due or rest == due[1:]


def _check_what_runs(entry: Entry, path: str) -> Iterator[_Finding]:
    if "name" not in entry:
        yield _Finding("missing", path, "", "there is no name", 'add "name": a unique one in lower case')
    given = {key for key in RUN_FIELDS if key in entry}
    matrix = entry.get("matrix")
    from_matrix = {key for key in RUN_FIELDS if isinstance(matrix, dict) and key in matrix}
    if "command" in entry and given:
        reason = f"there is a command and also {', '.join(sorted(given))}"
        yield _Finding("both", path, "", reason, "keep the command, or the fields of a run of tunestack")
    elif "command" not in entry and not (given | from_matrix) - {"set"}:
        remedy = 'add "command", or "preset", "model" or "data" for a run of tunestack'
        yield _Finding("missing", path, "", "there is nothing to run", remedy)


def _text(*, empty: bool = False) -> Callable[[Json, str], Iterator[_Finding]]:
    def findings(value: Json, path: str) -> Iterator[_Finding]:
        if not isinstance(value, str):
            yield _Finding("type", path, _short(value), "is no text", "write a text in double quotes")
        elif not empty and not value.strip():
            yield _Finding("range", path, _short(value), "is empty", "write something, or remove the field")
        elif "\0" in value:
            yield _Finding("range", path, _short(value), "holds a NUL character", "remove it")

    return findings


def _whole(least: int, most: int, unit: str) -> Callable[[Json, str], Iterator[_Finding]]:
    def findings(value: Json, path: str) -> Iterator[_Finding]:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            yield _Finding("type", path, _short(value), "is no whole number", f"give {unit}, without quotes")
        elif not least <= value <= most:
            yield _Finding("range", path, _short(value), f"is not from {least} to {most}", f"give {unit}")

    return findings


def _check_name(value: Json, path: str) -> Iterator[_Finding]:
    if not isinstance(value, str):
        yield _Finding("type", path, _short(value), "is no text", "write a text in double quotes")
    elif not is_name(value):
        remedy = (
            "take up to 63 of a-z, 0-9, . _ - beginning with a letter or digit, without .., no . or .lock at the end"
        )
        yield _Finding("name", path, _short(value), "is no name of an experiment", remedy)


def _check_status(value: Json, path: str) -> Iterator[_Finding]:
    if value not in STATUSES:
        close = difflib.get_close_matches(str(value), STATUSES, 1)
        meant = f"did you mean {close[0]}? " if close else ""
        yield _Finding("status", path, _short(value), "is no status", f"{meant}There are: {', '.join(STATUSES)}")


def _check_list_of_names(value: Json, path: str) -> Iterator[_Finding]:
    if not isinstance(value, list):
        yield _Finding("type", path, _short(value), "is no list", "write the names in [ and ]")
        return
    for index, name in enumerate(value):
        if not isinstance(name, str):
            yield _Finding("type", f"{path}[{index}]", _short(name), "is no text", "write a name in double quotes")


def _check_set(value: Json, path: str) -> Iterator[_Finding]:
    if not isinstance(value, dict):
        yield _Finding("type", path, _short(value), "is no object", 'write {"max_steps": 200}')
        return
    for key, one in value.items():
        if not isinstance(one, str | int | float):
            remedy = "give a text, a number, true or false"
            yield _Finding("type", member(path, key), _short(one), "cannot be the value of a setting", remedy)


def _check_matrix(value: Json, path: str) -> Iterator[_Finding]:
    if not isinstance(value, dict) or not value:
        yield _Finding("type", path, _short(value), "is no object of lists", 'write {"lr": [1e-4, 2e-4]}')
        return
    count = 1
    for key, values in value.items():
        place = member(path, key)
        if not KEY.fullmatch(key):
            remedy = "take letters, digits and underscores, not beginning with a digit"
            yield _Finding("matrix-key", place, "", "cannot be the name of a variable", remedy)
        if not isinstance(values, list) or not values:
            yield _Finding("type", place, _short(values), "is no list of values", "write at least one value in [ and ]")
            continue
        count *= len(values)
        yield from _check_values(values, place)
    if count > CHILDREN:
        remedy = f"make it smaller: at most {CHILDREN}"
        yield _Finding("range", path, "", f"gives {count} experiments", remedy)


def _check_values(values: list[Json], path: str) -> Iterator[_Finding]:
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        place = f"{path}[{index}]"
        if not isinstance(value, str | int | float):
            yield _Finding("type", place, _short(value), "cannot be a value", "give a text, a number, true or false")
            continue
        text = scalar_text(value)
        if "\0" in text:
            yield _Finding("range", place, _short(value), "holds a NUL character", "remove it")
        if text in seen:
            reason = f"is the same as value {seen[text]}"
            yield _Finding("matrix-repeated", place, _short(value), reason, "remove one of the two")
        seen.setdefault(text, index)


def _check_object(value: Json, path: str) -> Iterator[_Finding]:
    if not isinstance(value, dict):
        yield _Finding("type", path, _short(value), "is no object", "remove it: runners write it")


def _check_children(value: Json, path: str) -> Iterator[_Finding]:
    yield from _check_object(value, path)
    if not isinstance(value, dict):
        return
    for name, child in value.items():
        place = member(path, name)
        yield from _check_object(child, place)
        if isinstance(child, dict) and "status" in child:
            yield from _check_status(child["status"], member(place, "status"))


_CHECKS: Final[Mapping[str, Callable[[Json, str], Iterator[_Finding]]]] = {
    "name": _check_name,
    "command": _text(),
    "preset": _text(),
    "model": _text(),
    "data": _text(),
    "set": _check_set,
    "status": _check_status,
    "timeout": _whole(1, _LONGEST, f"seconds from 1 to {_LONGEST}"),
    "description": _text(empty=True),
    "needs": _check_list_of_names,
    "matrix": _check_matrix,
    "gpus": _whole(0, 64, "how many GPUs it needs"),
    "retries": _whole(0, 100, "how often it is tried again"),
    "attempt": _check_object,
    "children": _check_children,
}


def _names(entry: Entry) -> list[str]:
    """The experiment's own name, then those of its children; nothing where they cannot be told."""
    name = entry.get("name")
    if not isinstance(name, str) or not is_name(name):
        return []
    matrix = entry.get("matrix")
    if matrix is None or any(True for _ in _check_matrix(matrix, "")):
        return [name]
    return [name, *(child.name for child in expand(name, matrix_of(entry) or {}))]


def _check_names(entries: list[Json]) -> Iterator[_Finding]:
    first: dict[str, int] = {}
    for index, entry in as_entries(entries):
        for name in dict.fromkeys(_names(entry)):
            if name in first:
                what = "the name" if name == entry["name"] else f"a child's name, {name},"
                reason = f"{what} is also that of [{first[name]}]"
                yield _Finding("duplicate", f"[{index}].name", _short(entry["name"]), reason, "give it another name")
            first.setdefault(name, index)
        name_value = entry.get("name")
        if isinstance(name_value, str) and "matrix" in entry and len(name_value) > PARENT_LENGTH:
            reason = f"is too long for an experiment with a matrix: {len(name_value)} characters"
            remedy = f"take at most {PARENT_LENGTH}, so that there is room for the children's values"
            yield _Finding("name", f"[{index}].name", _short(name_value), reason, remedy)


def _check_needs(entries: list[Json], bad: set[int]) -> Iterator[_Finding]:
    owner = {name: index for index, entry in reversed(list(as_entries(entries))) for name in _names(entry)}
    graph: dict[int, list[int]] = {}
    for index, entry in as_entries(entries):
        needs = entry.get("needs")
        for place, need in enumerate(needs if isinstance(needs, list) else []):
            if not isinstance(need, str):
                continue
            path = f"[{index}].needs[{place}]"
            if need not in owner:
                close = difflib.get_close_matches(need, owner, 1)
                meant = f"did you mean {close[0]}? " if close else ""
                remedy = f"{meant}Give the name of an experiment of this file"
                yield _Finding("needs-unknown", path, _short(need), "there is no such experiment", remedy)
                continue
            graph.setdefault(index, []).append(owner[need])
            if owner[need] in bad and owner[need] != index:
                reason = f"[{owner[need]}] has a problem, so it is not run"
                yield _Finding("needs-broken", path, _short(need), reason, "correct that one first")
    for cycle in _cycles(graph):
        names = [str(cast("Entry", entries[index])["name"]) for index in cycle]
        ring = " → ".join([*names, names[0]])
        yield _Finding("needs-cycle", f"[{cycle[0]}].needs", "", f"they wait for each other: {ring}", "remove one need")


def _cycles(graph: Mapping[int, list[int]]) -> Iterator[list[int]]:
    """Each cycle once, from its first experiment in the file. Iterative: a chain may have thousands of links."""
    done: set[int] = set()
    for start in graph:
        path: list[int] = []
        stack: list[tuple[int, bool]] = [(start, False)]
        while stack:
            node, leaving = stack.pop()
            if leaving:
                path.pop()
                done.add(node)
            elif node in path:
                ring = path[path.index(node) :]
                first = ring.index(min(ring))
                yield ring[first:] + ring[:first]
            elif node not in done:
                path.append(node)
                stack.append((node, True))
                stack += [(after, False) for after in reversed(graph.get(node, []))]
