"""What a runner decides, without a server: order, GPUs, leases, what to try again; and the parts that it stands on."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunestack_train.errors import SettingsError
from tunestack_train.experiments.board import Board, Change
from tunestack_train.experiments.devices import Gpu, Slots, find_gpus
from tunestack_train.experiments.format import Entry, write
from tunestack_train.experiments.jobs import command_of, environment_of
from tunestack_train.experiments.leases import Leases
from tunestack_train.experiments.log_file import LogFile
from tunestack_train.experiments.plan import View, abandoned, starts, verdicts
from tunestack_train.experiments.redaction import Redactor
from tunestack_train.experiments.report import Report

if TYPE_CHECKING:
    from tunestack_train.experiments.positions import Json

GPUS = [Gpu(str(index)) for index in range(4)]


def board(*entries: Entry) -> Board:
    listed: list[Json] = [{"command": "true", **entry} for entry in entries]
    made = Board("c0ffee", write(listed))
    assert made.problems == ()
    return made


def view(shown: Board, claims: dict[str, str] | None = None, dead: set[str] | None = None) -> View:
    return View(shown, claims or {}, lambda name: name in (dead or set()))


def started(shown: View, slots: Slots, held: set[str] | None = None) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for start in starts(shown, slots, held or set(), "me"):
        found[start.item.name] = tuple(gpu.index for gpu in slots.take(start.item.gpus))
    return found


def test_gpus_are_given_in_the_order_of_the_file_and_shared_by_none() -> None:
    shown = view(board({"name": "a"}, {"name": "b", "gpus": 2}, {"name": "c", "gpus": 0}, {"name": "d"}, {"name": "e"}))
    slots = Slots(GPUS, 1, gpus_on_cpu=False)
    assert started(shown, slots) == {"a": ("0",), "b": ("1", "2"), "c": (), "d": ("3",)}
    slots.give_back([GPUS[1], GPUS[2]])
    assert started(shown, slots, {"a", "b", "c", "d"}) == {"e": ("1",)}


def test_one_that_waits_for_many_gpus_is_not_overtaken() -> None:
    shown = view(board({"name": "big", "gpus": 4}, {"name": "small"}, {"name": "cpu", "gpus": 0}))
    slots = Slots(GPUS, 1, gpus_on_cpu=False)
    taken = slots.take(1)
    assert started(shown, slots) == {"cpu": ()}
    slots.give_back(taken)
    assert started(shown, slots, {"cpu"}) == {"big": ("0", "1", "2", "3")}


def test_one_that_this_machine_can_never_run_keeps_nobody_waiting() -> None:
    shown = view(board({"name": "big", "gpus": 5}, {"name": "small"}))
    assert started(shown, Slots(GPUS, 1, gpus_on_cpu=False)) == {"small": ("0",)}
    without = Slots([], 1, gpus_on_cpu=False)
    assert started(view(board({"name": "small"}, {"name": "cpu", "gpus": 0})), without) == {"cpu": ()}
    rehearsing = Slots([], 2, gpus_on_cpu=True)
    assert started(shown, rehearsing) == {"big": (), "small": ()}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=12), st.data())
def test_no_gpu_is_ever_given_twice(wishes: list[int], data: st.DataObject) -> None:
    slots = Slots(GPUS, 2, gpus_on_cpu=False)
    out: list[tuple[Gpu, ...]] = []
    for wish in wishes:
        if slots.takes(wish):
            out.append(slots.take(wish))
            assert len(out[-1]) == wish
        elif out:
            slots.give_back(out.pop(data.draw(st.integers(0, len(out) - 1))))
        held = [gpu.index for given_gpus in out for gpu in given_gpus]
        assert len(held) == len(set(held))


def test_needs_are_waited_for_and_a_matrix_is_needed_whole() -> None:
    sweep: Entry = {"name": "s", "matrix": {"x": [1, 2]}, "children": {"s.x-1": {"status": "completed"}}}
    shown = board(sweep, {"name": "after-one", "needs": ["s.x-1"]}, {"name": "after-all", "needs": ["s"]})
    assert set(started(view(shown), Slots(GPUS, 1, gpus_on_cpu=False))) == {"s.x-2", "after-one"}


def test_claims_are_left_alone_until_they_are_void() -> None:
    running: Entry = {"name": "r", "status": "running", "attempt": {"number": 2, "lost": 1}}
    shown = board(running, {"name": "p"})
    slots = Slots(GPUS, 1, gpus_on_cpu=False)
    claims = {"r": "1" * 40, "p": "2" * 40}
    assert started(view(shown, claims), slots) == {}
    found = list(starts(view(shown, claims, {"r"}), slots, set(), "me"))
    assert [(one.item.name, one.old) for one in found] == [("r", "1" * 40)]
    assert {key: found[0].attempt[key] for key in ("number", "lost", "runner")} == {
        "number": 3,
        "lost": 2,
        "runner": "me",
    }


def test_what_loses_its_runner_again_and_again_is_given_up() -> None:
    shown = board({"name": "r", "status": "running", "attempt": {"number": 6, "lost": 5, "runner": "desk"}})
    seen = view(shown, {"r": "1" * 40}, {"r"})
    assert started(seen, Slots(GPUS, 1, gpus_on_cpu=False)) == {}
    verdict = verdicts(seen)["r"]
    assert verdict.status == "error"
    assert "lost 6 times" in str(verdict.attempt["message"])
    assert verdicts(view(shown, {"r": "1" * 40})) == {}


def test_claims_of_what_has_ended_or_is_gone_are_removed_when_they_are_void() -> None:
    shown = board({"name": "done", "status": "completed"}, {"name": "open"})
    claims = {"done": "1" * 40, "open": "2" * 40, "gone": "3" * 40}
    assert sorted(abandoned(view(shown, claims, set(claims)), set())) == ["done", "gone"]
    assert abandoned(view(shown, claims, {"gone"}), {"gone"}) == []


def test_a_repeated_one_begins_its_retries_anew() -> None:
    tried: Entry = {"name": "a", "retries": 1, "status": "pending", "attempt": {"number": 2, "failures": 2}}
    trying: Entry = {"name": "b", "retries": 1, "status": "pending", "attempt": {"number": 1, "failures": 1}}
    found = list(starts(view(board(tried, trying)), Slots(GPUS, 1, gpus_on_cpu=False), set(), "me"))
    assert [one.attempt.get("failures") for one in found] == [None, 1]


def test_a_cancelled_sweep_starts_nothing_and_stays_cancelled() -> None:
    sweep: Entry = {
        "name": "s",
        "matrix": {"x": [1, 2, 3]},
        "status": "cancelled",
        "children": {"s.x-1": {"status": "completed"}, "s.x-2": {"status": "running", "attempt": {"number": 1}}},
    }
    shown = board(sweep)
    assert [item.status for item in shown.items.values()] == ["completed", "cancelled", "cancelled"]
    changed = shown.changed({"s.x-2": Change("cancelled", {"number": 1, "ended_at": "t"}, sweep)})
    assert isinstance(changed[0], dict)
    assert changed[0]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("children", "summary"),
    [
        (("completed", "completed"), "completed"),
        (("completed", "pending"), "running"),
        (("completed", "failed"), "failed"),
        (("timeout", "error"), "timeout"),
        (("failed", "running"), "running"),
    ],
)
def test_a_matrix_is_summed_up(children: tuple[str, str], summary: str) -> None:
    states: Entry = {"s.x-1": {"status": children[0]}, "s.x-2": {"status": "running", "attempt": {"number": 1}}}
    sweep: Entry = {"name": "s", "command": "true", "matrix": {"x": [1, 2]}, "status": "running", "children": states}
    changed = board(sweep).changed({"s.x-2": Change(children[1], {"number": 1, "ended_at": "t"}, sweep)})
    assert isinstance(changed[0], dict)
    assert changed[0]["status"] == summary


def test_an_end_is_merged_into_what_others_changed_meanwhile() -> None:
    before: Entry = {"name": "a", "command": "true", "status": "running", "attempt": {"number": 1}, "x": [1]}
    change = Change("completed", {"number": 1, "exit_code": 0}, before)
    now = board({**before, "description": "added", "status": "cancelled"}, {"name": "b"})
    assert now.changed({"a": change}) == [
        {**before, "description": "added", "status": "completed", "attempt": {"number": 1, "exit_code": 0}},
        {"command": "true", "name": "b"},
    ]
    removed = board({"name": "b"})
    assert [entry["name"] for entry in removed.changed({"a": change}) if isinstance(entry, dict)] == ["b", "a"]
    returned = Change("pending", {"number": 1, "failures": 1}, before)
    [kept] = board({**before, "status": "cancelled"}).changed({"a": returned})
    assert isinstance(kept, dict)
    assert kept["status"] == "cancelled", "a person's word against a retry"


def test_a_lease_runs_by_the_own_clock_from_the_last_change() -> None:
    clock = [100.0]
    leases = Leases(10.0, lambda: clock[0])
    leases.note({"a": "1", "b": "1"}, ["a", "c"])
    clock[0] += 9
    leases.note({"a": "2", "b": "1"}, ["a", "c"])
    assert not leases.expired("b")
    assert leases.next_expiry() == 1.0
    clock[0] += 1
    assert [leases.expired(name) for name in ("a", "b", "c", "unknown")] == [False, True, True, False]
    leases.note({"a": "2"}, [])
    clock[0] += 9
    assert leases.expired("a")


def test_a_run_of_tunestack_gets_its_settings_as_arguments() -> None:
    entry: Entry = {
        "name": "ranks",
        "preset": "rehearsal",
        "data": "d.jsonl",
        "set": {"max_steps": 5, "packing": False},
        "matrix": {"lora_r": [8], "model": ["rehearsal"]},
    }
    [item] = Board("c0ffee", write([entry])).items.values()
    assert list(command_of(item))[2:] == [
        *("tunestack_train", "run", f"--name={item.name}", "--preset=rehearsal", "--data=d.jsonl", "--model=rehearsal"),
        *("--set=max_steps=5", "--set=packing=false", "--set=lora_r=8"),
    ]
    assert environment_of(item, 3) == {
        "EXPERIMENT_LORA_R": "8",
        "EXPERIMENT_MODEL": "rehearsal",
        "EXPERIMENT_ATTEMPT": "3",
    }


def test_gpus_are_found_by_setting_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_gpus("none") == []
    assert [gpu.index for gpu in find_gpus("2,3")] == ["2", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.index for gpu in find_gpus("auto")] == ["1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert find_gpus("auto") == []
    with pytest.raises(SettingsError):
        find_gpus(",")


def test_a_secret_that_comes_in_pieces_is_still_found(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", 1 << 20, Redactor(["s3cret-token"]), lambda error: None)
    for piece in (b"before s3cr", b"et-tok", b"en after\n", b"x" * 70_000, b"s3cret-", b"token" + b"y" * 70_000, b"\n"):
        log.write(piece)
    log.flush()
    text = (tmp_path / "log").read_text()
    assert "s3cret" not in text
    assert text.startswith("before *** after\n")
    assert text.count("x") == 70_000
    assert log.tail(100).startswith(b"yyyy")


def test_a_full_disk_is_told_and_the_end_of_the_log_is_still_known(tmp_path: Path) -> None:
    failures: list[OSError] = []
    log = LogFile(Path("/dev/full/log"), 1 << 20, Redactor(), failures.append)
    log.write(b"one\ntwo\n")
    assert log.tail(100) == b"one\ntwo\n"
    assert failures


def test_problems_are_told_at_once_and_the_rest_not_more_often_than_asked(tmp_path: Path) -> None:
    report = Report(tmp_path / "status.json", {"runner": "me"}, between=3600)
    assert report.due() is not None
    report.pushed()
    report.running = ["a"]
    assert report.due() is None
    assert report.problem("file", "broken", "mend it", line=3)
    assert not report.problem("file", "broken", "mend it", line=3)
    assert '"line": 3' in str(report.due())
    report.pushed()
    assert report.due() is None
    assert report.solved("file")
    assert not report.solved("file")
    assert report.due() is not None
    report.write()
    assert "updated_at" in (tmp_path / "status.json").read_text()


def test_a_key_of_somebody_else_is_left_to_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunestack_train.experiments.access import Access

    key = tmp_path / "git-ssh-key"
    key.write_text("key")
    key.chmod(0o444)
    access = Access("git@git.example.com:a/b.git", tmp_path / "private", secrets=tmp_path)
    with pytest.raises(SettingsError):
        access.check()
    monkeypatch.setattr(os, "getuid", lambda: key.stat().st_uid + 1)
    access.check()
