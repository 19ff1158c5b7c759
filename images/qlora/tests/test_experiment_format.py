"""What `experiments.json` may hold, against the files of examples/experiments that both sides read."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunestack_train.experiments.format import STATUSES, as_entries, check, matrix_of, write
from tunestack_train.experiments.json_text import indented, number_text, read
from tunestack_train.experiments.matrix import child_name, expand, fill_in, is_name
from tunestack_train.experiments.merge import merge
from tunestack_train.experiments.positions import BrokenJsonError, Json, read_with_lines

# Beside the package in the repository, and in the image of the tests.
PACKAGE = Path(__file__).resolve().parent.parent
EXAMPLES = next(
    folder
    for folder in (PACKAGE.parent.parent / "examples" / "experiments", Path("/examples/experiments"))
    if folder.is_dir()
)
VALID = json.loads((EXAMPLES / "valid.json").read_text(encoding="utf-8"))
BROKEN = json.loads((EXAMPLES / "broken.json").read_text(encoding="utf-8"))


def test_every_example_has_its_expectation() -> None:
    for kind, expected in (("valid", VALID), ("broken", BROKEN)):
        assert {path.name for path in (EXAMPLES / kind).iterdir()} == set(expected)


@pytest.mark.parametrize("name", VALID)
def test_a_valid_file_has_no_problem_and_gives_these_experiments(name: str) -> None:
    checked = check((EXAMPLES / "valid" / name).read_text(encoding="utf-8"))
    assert (checked.problems, checked.unusable) == ((), frozenset())
    found: list[object] = []
    for _, entry in as_entries(checked.entries or []):
        own, matrix = str(entry["name"]), matrix_of(entry)
        children = [(child.name, dict(child.values)) for child in expand(own, matrix)] if matrix else [(own, {})]
        for child, values in children:
            command = {"command": fill_in(str(entry["command"]), values)} if "command" in entry else {}
            found.append({"name": child, **({"values": values} if matrix else {}), **command})
    assert found == VALID[name]


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_has_exactly_these_problems(name: str) -> None:
    checked = check((EXAMPLES / "broken" / name).read_text(encoding="utf-8"))
    found = [{"code": one.code, "path": one.path, "line": one.line} for one in checked.problems]
    assert found == BROKEN[name]["problems"]
    assert sorted(checked.unusable) == BROKEN[name]["unusable"]
    assert all(one.reason and one.remedy for one in checked.problems)


@pytest.mark.parametrize("path", sorted((EXAMPLES / "merge").iterdir()), ids=lambda path: path.stem)
def test_both_sides_are_merged_as_written_down(path: Path) -> None:
    example = json.loads(path.read_text(encoding="utf-8"))
    merged = merge(example["base"], example["ours"], example["theirs"])
    assert merged.entries == example["merged"]
    assert [one.path for one in merged.conflicts] == example["conflicts"]


def test_the_template_is_valid_and_written_as_both_sides_write() -> None:
    text = (EXAMPLES / "template.json").read_text(encoding="utf-8")
    checked = check(text)
    assert checked.problems == ()
    assert write(checked.entries or []) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (1e-4, "0.0001"),
        (2e-6, "0.000002"),
        (1.25e-7, "1.25e-7"),
        (1e21, "1e+21"),
        (123456789012345680000, "123456789012345680000"),
        (-12.5, "-12.5"),
        (0.1, "0.1"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
    ],
)
def test_numbers_are_written_as_javascript_writes_them(number: float, text: str) -> None:
    assert number_text(number) == text


scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values: st.SearchStrategy[Json] = st.recursive(
    scalars | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


@settings(max_examples=60, deadline=None)
@given(values)
def test_what_is_written_is_read_again(value: Json) -> None:
    text = indented(value)
    # By the text: beyond 2^53 JavaScript writes other digits of the same number.
    assert indented(read(text)) == text
    assert read_with_lines(text)[0] == json.loads(text)


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from('[]{}":,.01-e \n\\truefalsnu/'), max_size=20))
def test_the_reader_with_lines_accepts_what_json_accepts(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=pytest.fail)
    except ValueError:
        with pytest.raises(BrokenJsonError) as broken:
            read_with_lines(text)
        assert 1 <= broken.value.line <= text.count("\n") + 1
    else:
        assert repr(read_with_lines(text)[0]) == repr(expected)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["lr", "Seed", "x"]), texts | st.floats(0, 1), min_size=1))
def test_every_child_has_a_valid_name(combination: dict[str, str | float]) -> None:
    assert is_name(child_name("p" * 50, combination))


@settings(max_examples=60, deadline=None)
@given(st.lists(values, max_size=3))
def test_checking_never_raises(entries: list[Json]) -> None:
    checked = check(write(entries))
    assert checked.entries is not None
    assert bool(checked.problems) == bool(checked.unusable) or not entries


names = st.sampled_from(["a", "b", "c", "d"])
states = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(STATUSES),
        "attempt": st.fixed_dictionaries({"number": st.integers(1, 3)}, optional={"runner": names}),
    },
)
experiments = st.fixed_dictionaries(
    {"name": names},
    optional={
        "command": st.sampled_from(["true", "false"]),
        "note": values,
        "children": st.dictionaries(names, states, max_size=2),
    },
)
entries_of = st.tuples(experiments, states).map(lambda pair: pair[0] | pair[1])
files = st.lists(entries_of, max_size=4, unique_by=lambda entry: str(entry["name"]))


@settings(max_examples=60, deadline=None)
@given(files, files, files)
def test_a_merge_is_the_same_whichever_side_is_ours(base: list[Json], ours: list[Json], theirs: list[Json]) -> None:
    one, other = merge(base, ours, theirs), merge(base, theirs, ours)
    assert write(one.entries) == write(other.entries) or _sorted_keys(one.entries) == _sorted_keys(other.entries)
    assert [entry["name"] for entry in one.entries if isinstance(entry, dict)] == [
        entry["name"] for entry in other.entries if isinstance(entry, dict)
    ]
    assert {conflict.path for conflict in one.conflicts} == {conflict.path for conflict in other.conflicts}


@settings(max_examples=60, deadline=None)
@given(files, files)
def test_a_side_without_changes_takes_the_other(base: list[Json], theirs: list[Json]) -> None:
    for merged in (merge(base, base, theirs), merge(base, theirs, base)):
        assert _sorted_keys(merged.entries) == _sorted_keys(_with_children_of(base, theirs))
        assert merged.conflicts == ()


@settings(max_examples=60, deadline=None)
@given(files, files, files)
def test_nothing_is_lost(base: list[Json], ours: list[Json], theirs: list[Json]) -> None:
    merged = {entry["name"]: entry for entry in merge(base, ours, theirs).entries if isinstance(entry, dict)}
    old = {entry["name"]: entry for entry in base if isinstance(entry, dict)}
    for side in (ours, theirs):
        for entry in side:
            assert isinstance(entry, dict)
            name = entry["name"]
            if entry == old.get(name):
                continue
            assert name in merged, "changed on one side, so it stays"
            # Whatever a side added is there, whole or against a conflicting value of the other side.
            # (status and attempt belong together, and are those of the side that got further).
            assert set(entry) - set(old.get(name, {})) - {"status", "attempt"} <= set(merged[name])
            children = entry.get("children")
            assert set(children if isinstance(children, dict) else {}) <= set(merged[name].get("children") or {})


def test_unknown_fields_survive_many_merges() -> None:
    chance = random.Random(7)
    base: list[Json] = [{"name": f"e{n}", "command": "true", "x-owner": {"deep": [n, None, True]}} for n in range(20)]
    current = base
    for number in range(50):
        changed = json.loads(json.dumps(base))
        changed[chance.randrange(20)]["status"] = "running"
        changed[chance.randrange(20)][f"x-{number}"] = number
        current = merge(base, current, changed).entries
    by_name = {entry["name"]: entry for entry in current if isinstance(entry, dict)}
    assert all(by_name[f"e{n}"]["x-owner"] == {"deep": [n, None, True]} for n in range(20))
    assert {key for entry in by_name.values() for key in entry if key[2:].isdigit()} == {f"x-{n}" for n in range(50)}


def _sorted_keys(entries: list[Json]) -> str:
    return json.dumps(entries, sort_keys=True)


def _with_children_of(base: list[Json], theirs: list[Json]) -> list[Json]:
    """`theirs`, with the children of base that it lacks: one that either side has is kept."""
    old = {entry["name"]: entry.get("children") for entry in base if isinstance(entry, dict)}
    result: list[Json] = []
    for entry in theirs:
        assert isinstance(entry, dict)
        earlier, own = old.get(entry["name"]), entry.get("children")
        either = isinstance(earlier, dict) or isinstance(own, dict)
        children: dict[str, Json] = {
            **(earlier if isinstance(earlier, dict) else {}),
            **(own if isinstance(own, dict) else {}),
        }
        result.append({**entry, "children": children} if either else entry)
    return result
