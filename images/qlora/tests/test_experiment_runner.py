"""The runner as a process, against a real bare repository."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Workplace
from queue_site import BRANCH, Site, git, wait_for


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path).make()
    yield made
    made.end()


@pytest.fixture
def site_on_small_disk(tmp_path: Path, small_disk: Path) -> Iterator[Site]:
    made = Site(tmp_path, outputs_folder=small_disk / "outputs").make()
    yield made
    made.end()


def test_it_runs_in_order_and_pushes_results_and_logs(site: Site) -> None:
    metrics = 'echo "{\\"loss\\": 0.5}" > "$EXPERIMENT_OUTPUT_DIR/metrics.json"'
    command = f"cat code.txt; git status --porcelain; {metrics}; echo $EXPERIMENT_NAME"
    second = "ls; git status --porcelain; git show HEAD:experiment-results/one/execution.log | tail -n 1"
    site.push(
        [
            {"name": "second", "command": second, "needs": ["one"], "owner": {"kept": [1, None]}},
            {"name": "one", "command": command, "description": "the first"},
            {"name": "bad", "command": "exit 3"},
        ]
    )
    done = site.once()
    assert done.returncode == 0, done.stderr
    entries = site.entries()
    assert [entries[name]["status"] for name in ("second", "one", "bad")] == ["completed", "completed", "failed"]
    assert entries["second"]["owner"] == {"kept": [1, None]}
    attempt = entries["one"]["attempt"]
    assert isinstance(attempt, dict)
    assert (attempt["number"], attempt["runner"], attempt["exit_code"]) == (1, "first", 0)
    results = site.results("one")
    assert results["metrics"] == {"loss": 0.5}
    assert (results["status"], results["exit_code"], results["matrix"], results["gpus"]) == ("completed", 0, None, [])
    assert results["commit"] == attempt["commit"]
    log = site.shown("one", "execution.log").splitlines()
    assert log[1:] == ["first", "one"], "the worktree is clean and is that of the commit"
    shown = site.shown("second", "execution.log").splitlines()
    assert shown[1:] == ["code.txt", "experiments.json", "one"], "results are in the commit and not in the worktree"
    assert json.loads((site.outputs / "one" / "results.json").read_text()) == results
    assert site.results("bad")["exit_code"] == 3
    assert site.refs("claims") == []
    order = [line.split()[1] for line in done.stdout.splitlines() if " started " in line]
    assert order.index("one:") < order.index("second:")


def test_an_end_the_next_start_and_the_report_go_in_one_push(site: Site) -> None:
    begun = int(git(site.server, "rev-list", "--count", BRANCH))
    site.push([{"name": f"e{number}", "command": "true"} for number in range(5)])
    assert site.once("first", "--cpu-places=1", "--poll=1h", "--lease=1h").returncode == 0
    assert all(entry["status"] == "completed" for entry in site.entries().values())
    changes = git(site.server, "log", "--reverse", "--format=%s", BRANCH).splitlines()[begun + 1 :]
    assert changes == [
        "Experiments: e0 running",
        *(f"Experiments: e{number} completed, e{number + 1} running" for number in range(4)),
        "Experiments: e4 completed",
    ]
    calls = json.loads((site.folder / "first" / "status.json").read_text())["git_calls"]
    # Beside those of the branch: the first report, and the last one.
    assert calls["push"] <= len(changes) + 2
    assert site.runner_file()["state"] == "stopped"


def test_a_runner_that_is_started_again_has_nothing_to_set_up(site: Site) -> None:
    def settings() -> int:
        assert site.once().returncode == 0
        calls = json.loads((site.folder / "first" / "status.json").read_text())["git_calls"]
        return int(calls["config"])

    assert settings() > 1
    assert settings() == 1


def test_a_matrix_is_kept_in_its_experiment(site: Site) -> None:
    command = "echo lr={lr} env=$EXPERIMENT_LR note={note}"
    site.push([{"name": "sweep", "matrix": {"lr": [1e-4, 2], "note": ["a b"]}, "command": command}])
    assert site.once().returncode == 0
    entry = site.entries()["sweep"]
    assert entry["status"] == "completed"
    children = entry["children"]
    assert isinstance(children, dict)
    assert [child["status"] for child in children.values()] == ["completed", "completed"]
    logs = [site.shown(name, "execution.log").splitlines()[-1] for name in children]
    assert logs == ["lr=0.0001 env=0.0001 note=a b", "lr=2 env=2 note=a b"]
    assert site.results(next(iter(children)))["matrix"] == {"lr": 0.0001, "note": "a b"}


def test_what_needs_a_failed_one_is_not_started(site: Site) -> None:
    site.push(
        [
            {"name": "a", "command": "false"},
            {"name": "b", "command": "true", "needs": ["a"]},
            {"name": "c", "command": "true", "needs": ["b"]},
            {"name": "x", "command": "true", "needs": ["y"]},
            {"name": "y", "command": "true", "needs": ["x"]},
        ]
    )
    assert site.once().returncode == 0
    entries = site.entries()
    assert [entries[name].get("status") for name in "abcxy"] == ["failed", "error", "error", None, None]
    assert entries["b"]["attempt"] == {"message": "not started: it needs a, which is failed"}
    assert site.problems() == {"file"}, "the cycle is told"


def test_the_timeout_ends_the_whole_group(site: Site) -> None:
    marker = site.folder / "survivor"
    command = f"trap '' TERM; (trap '' TERM; sleep 6; touch {marker}) & sleep 60"
    site.push([{"name": "slow", "command": command, "timeout": 1}])
    began = time.monotonic()
    assert site.once().returncode == 0
    assert site.status("slow") == "timeout"
    assert site.results("slow")["exit_code"] == -9, "TERM was ignored, so it was killed after the grace"
    time.sleep(max(0.0, 8 - (time.monotonic() - began)))
    assert not marker.exists()


def test_it_is_tried_again_as_often_as_asked(site: Site) -> None:
    count = site.folder / "count"
    command = f"echo x >> {count}; test $(wc -l < {count}) = 3"
    site.push(
        [
            {"name": "flaky", "command": command, "retries": 2},
            {"name": "hopeless", "command": "exit 1", "retries": 1},
        ]
    )
    assert site.once().returncode == 0
    flaky, hopeless = site.entries()["flaky"], site.entries()["hopeless"]
    assert (flaky["status"], hopeless["status"]) == ("completed", "failed")
    assert isinstance(flaky["attempt"], dict)
    assert isinstance(hopeless["attempt"], dict)
    assert (flaky["attempt"]["number"], hopeless["attempt"]["number"]) == (3, 2)
    assert hopeless["attempt"]["failures"] == 2


def test_a_running_one_can_be_cancelled(site: Site) -> None:
    site.push([{"name": "long", "command": "sleep 60"}])
    site.start()
    wait_for(lambda: site.status("long") == "running")
    assert site.refs("claims") == ["long"]
    site.edit(lambda entries: entries[0].update(status="cancelled"))
    wait_for(lambda: site.refs("claims") == [])
    entry = site.entries()["long"]
    assert entry["status"] == "cancelled"
    assert isinstance(entry["attempt"], dict)
    assert {"started_at", "ended_at", "exit_code"} <= entry["attempt"].keys()
    assert site.results("long")["status"] == "cancelled"


def test_two_runners_never_run_the_same(site: Site) -> None:
    marks = site.folder / "marks"
    site.push([{"name": f"e{n}", "command": f"echo e{n} >> {marks}"} for n in range(12)])
    for name in ("first", "second", "third"):
        site.start(name)
    wait_for(lambda: all(entry.get("status") == "completed" for entry in site.entries().values()))
    assert sorted(marks.read_text().split()) == sorted(f"e{n}" for n in range(12))


def test_a_killed_runner_takes_its_experiment_with_it_and_another_takes_it(site: Site) -> None:
    marks = site.folder / "marks"
    command = (
        f"echo $EXPERIMENT_ATTEMPT >> {marks}; test $EXPERIMENT_ATTEMPT = 2 || (sleep 5; echo survived >> {marks})"
    )
    site.push([{"name": "work", "command": command}])
    first = site.start()
    wait_for(marks.exists)
    os.killpg(first.pid, signal.SIGKILL)
    began = time.monotonic()
    site.start("second")
    wait_for(lambda: site.status("work") == "completed")
    assert time.monotonic() - began > 3, "not before the lease is over"
    attempt = site.entries()["work"]["attempt"]
    assert isinstance(attempt, dict)
    assert (attempt["number"], attempt["runner"], attempt["lost"]) == (2, "second", 1)
    time.sleep(3)
    assert marks.read_text().split() == ["1", "2"]


def test_a_restarted_runner_goes_on_at_once(site: Site) -> None:
    marks = site.folder / "marks"
    site.push([{"name": "work", "command": f"echo x >> {marks}; test $EXPERIMENT_ATTEMPT = 2 || sleep 30"}])
    first = site.start("first", "--lease=10m")
    wait_for(marks.exists)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    site.start("first", "--lease=10m")
    wait_for(lambda: site.status("work") == "completed", 30)


def test_a_runner_is_not_disturbed_by_what_a_killed_one_had_begun(site: Site) -> None:
    """The killed runner's git lives on, and makes its worktree when the next runner has long begun with its own."""
    slow = site.folder / "bin" / "git"
    slow.parent.mkdir()
    real, begun = shutil.which("git"), site.folder / "begun"
    slow.write_text(f'#!/bin/sh\ncase " $* " in *" worktree add "*) touch {begun}; sleep 2;; esac\nexec {real} "$@"\n')
    slow.chmod(0o755)
    environment = {"PATH": f"{slow.parent}:{os.environ['PATH']}"}
    site.push([{"name": "work", "command": "git rev-parse HEAD"}])
    first = site.start("first", environment=environment)
    wait_for(begun.exists)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    site.start("first", environment=environment)
    wait_for(lambda: site.status("work") in ("completed", "error"))
    assert site.status("work") == "completed", site.entries()["work"]


def test_a_runner_that_was_away_notices_that_it_has_lost_its_claim(site: Site) -> None:
    ends = site.folder / "ends"
    command = (
        f"test $EXPERIMENT_ATTEMPT = 2 && sleep 12; echo $EXPERIMENT_ATTEMPT >> {ends}; test $EXPERIMENT_ATTEMPT = 2"
    )
    site.push([{"name": "work", "command": f"test $EXPERIMENT_ATTEMPT = 2 || sleep 4; {command}"}])
    first = site.start()
    wait_for(lambda: site.status("work") == "running")
    os.kill(first.pid, signal.SIGSTOP)
    second = site.start("second")
    wait_for(lambda: "attempt 2" in site.said("second"))
    os.kill(first.pid, signal.SIGCONT)
    wait_for(lambda: "another runner has taken it over" in site.said("first"))
    wait_for(lambda: site.status("work") == "completed")
    assert site.results("work")["runner"] == "second"
    assert second.poll() is None


def test_a_result_that_could_not_be_pushed_is_pushed_by_the_next(site: Site) -> None:
    marks = site.folder / "marks"
    site.push([{"name": "work", "command": f"echo x >> {marks}; mv {site.server} {site.server}.away; echo done"}])
    first = site.start()
    wait_for((site.outputs / "work" / "results.json").exists)
    os.killpg(first.pid, signal.SIGKILL)
    (site.folder / "server.git.away").rename(site.server)
    site.start("second")
    wait_for(lambda: site.status("work") == "completed")
    assert marks.read_text() == "x\n"
    assert site.results("work")["runner"] == "first"


def test_the_server_may_be_away_for_longer_than_the_lease(site: Site) -> None:
    site.push([{"name": "work", "command": "sleep 2; echo done"}])
    site.start()
    wait_for(lambda: site.status("work") == "running")
    site.server.rename(site.folder / "away")
    time.sleep(6)
    (site.folder / "away").rename(site.server)
    wait_for(lambda: site.status("work") == "completed")
    attempt = site.entries()["work"]["attempt"]
    assert isinstance(attempt, dict)
    assert attempt["number"] == 1


def test_term_gives_back_what_runs(site: Site) -> None:
    marks = site.folder / "marks"
    site.push([{"name": "work", "command": f"trap 'echo saved >> {marks}; exit 1' TERM; sleep 30 & wait"}])
    first = site.start()
    wait_for(lambda: site.status("work") == "running")
    time.sleep(0.5)
    first.terminate()
    assert first.wait(30) == 0
    entry = site.entries()["work"]
    assert entry["status"] == "pending"
    assert isinstance(entry["attempt"], dict)
    assert entry["attempt"]["message"] == "given back by first"
    assert site.refs("claims") == []
    assert marks.read_text() == "saved\n"
    assert site.runner_file()["state"] == "stopped"


def test_a_broken_file_is_told_and_outlived(site: Site) -> None:
    site.push([{"name": "work", "command": "sleep 2"}])
    site.start()
    wait_for(lambda: site.status("work") == "running")
    git(site.laptop, "pull", "--quiet", "origin", BRANCH)
    good = (site.laptop / "experiments.json").read_text()
    site.push_text(good + "]")
    wait_for(lambda: {"file", "unpublished"} <= site.problems())
    problem = next(iter(site.runner_file()["problems"]))  # type: ignore[call-overload]
    assert "experiments.json:" in problem["message"]
    site.push_text(good)
    wait_for(lambda: site.status("work") == "completed")
    wait_for(lambda: site.problems() == set())


def test_a_deleted_and_a_forced_branch_are_told_and_outlived(site: Site) -> None:
    site.push([{"name": "work", "command": "sleep 3"}])
    site.start()
    wait_for(lambda: site.status("work") == "running")
    git(site.laptop, "push", "--quiet", "origin", f":{BRANCH}")
    wait_for(lambda: "branch-missing" in site.problems())
    git(site.laptop, "checkout", "--quiet", "--orphan", "fresh")
    git(site.laptop, "branch", "--quiet", "-D", BRANCH)
    git(site.laptop, "branch", "--quiet", "-m", BRANCH)
    site.push([{"name": "other", "command": "true"}])
    wait_for(lambda: site.entries().get("work", {}).get("status") == "completed")
    wait_for(lambda: site.status("other") == "completed")
    assert "branch-missing" not in site.problems()


def test_a_rewritten_branch_is_told_and_outlived(site: Site) -> None:
    """A person's forced push takes back what the runner wrote: its claim of what runs, and a result."""
    site.push([{"name": "before", "command": "true"}, {"name": "work", "command": "sleep 2"}])
    begun = git(site.laptop, "rev-parse", "HEAD")
    site.start("first", "--cpu-places=1")
    wait_for(lambda: site.status("work") == "running")
    git(site.laptop, "commit", "--quiet", "--amend", "--message", "rewritten")
    assert git(site.laptop, "rev-parse", "HEAD") != begun
    git(site.laptop, "push", "--quiet", "--force", "origin", BRANCH)
    wait_for(lambda: "the branch was force-pushed" in site.said())
    # What had ended before is pending again by the person's word, and is done again; what ran is not lost.
    wait_for(lambda: [site.status(name) for name in ("before", "work")] == ["completed", "completed"])
    site.edit(lambda entries: entries.append({"name": "other", "command": "true"}))
    wait_for(lambda: site.status("other") == "completed")
    wait_for(lambda: not site.problems())


@pytest.mark.parametrize("state_too", [False, True])
def test_a_full_disk_is_told_and_outlived(site_on_small_disk: Site, small_disk: Path, state_too: bool) -> None:
    """An experiment fills the disk of the outputs, or the runner's own as well, and somebody makes room."""
    site = site_on_small_disk
    options = [f"--state={small_disk / 'state'}"] if state_too else []
    site.push([{"name": "fill", "command": 'cat /dev/zero > "$EXPERIMENT_OUTPUT_DIR/big"'}])
    site.start("first", *options)
    # With nowhere to make a commit, it can tell those alone who look at its log.
    wait_for(lambda: "make room" in site.said().lower() if state_too else "disk-full" in site.problems())
    site.edit(lambda entries: entries.append({"name": "next", "command": "true"}))
    time.sleep(1.5)
    assert site.status("next") == "pending"
    (site.outputs / "fill" / "big").unlink()
    wait_for(lambda: site.status("next") == "completed")
    wait_for(lambda: site.status("fill") == "failed")
    assert "No space left on device" in site.shown("fill", "execution.log")
    wait_for(lambda: not site.problems())


def test_the_runner_s_secrets_are_kept_from_command_log_and_results(site: Site) -> None:
    secrets = site.folder / "secrets"
    secrets.mkdir()
    (secrets / "git-token").write_text("file-token-4711\n")
    token = "environment-token-0815"
    site.push(
        [{"name": "leak", "command": f"env; echo file-token-4711; printf %s file-to; sleep 1; echo ken-4711 {token}"}]
    )
    done = site.once("first", f"--secrets={secrets}", environment={"GIT_TOKEN": token, "HF_TOKEN": "hf-for-the-run"})
    assert done.returncode == 0, done.stderr
    everything = "".join(
        path.read_text(errors="replace")
        for folder in (site.outputs, site.folder / "first")
        for path in folder.rglob("*")
        if path.is_file()
    )
    assert "GIT_TOKEN=" not in everything
    for shown in (everything, site.shown("leak", "execution.log"), site.shown("leak"), done.stdout, done.stderr):
        assert "file-token-4711" not in shown
    assert site.shown("leak", "execution.log").count("***") >= 2


def test_a_long_log_is_cut_for_git_and_rotated_here(site: Site) -> None:
    site.push([{"name": "talk", "command": "for n in $(seq 60000); do echo line $n of many; done"}])
    assert site.once("first", "--log-size=512KiB").returncode == 0
    shown = site.shown("talk", "execution.log")
    assert len(shown) <= 256 << 10
    assert shown.endswith("line 60000 of many")
    assert sorted(path.name for path in (site.outputs / "talk").glob("execution*")) == [
        "execution.log",
        "execution.log.1",
    ]


def test_a_run_of_tunestack_is_stopped_with_a_checkpoint_and_goes_on(site: Site, workplace: Workplace) -> None:
    """Whoever takes it next finds its checkpoint, as on one machine or on shared folders."""
    (site.laptop / "data.jsonl").write_text(workplace.data.read_text())
    settings: dict[str, object] = {"max_steps": 60, "save_steps": 5, "per_device_train_batch_size": 1}
    site.push([{"name": "queue-run", "preset": "rehearsal", "data": "data.jsonl", "set": settings, "gpus": 0}])
    environment = {**workplace.environment(), "OMP_NUM_THREADS": "1"}
    first = site.start("first", "--grace=60s", "--lease=2m", environment=environment)
    status = workplace.folders.logs / "queue-run" / "status.json"

    def step() -> int:
        try:
            return int(json.loads(status.read_text())["step"])
        except (OSError, ValueError):
            return 0

    wait_for(lambda: step() >= 8, 200)
    first.terminate()
    assert first.wait(90) == 0
    entry = site.entries()["queue-run"]
    assert entry["status"] == "pending"
    assert isinstance(entry["attempt"], dict)
    assert entry["attempt"]["message"] == "given back by first"
    before = step()
    assert 8 <= before < 60
    site.start("second", "--grace=60s", "--lease=2m", environment=environment)
    wait_for(lambda: site.status("queue-run") == "completed", 200)
    assert "going on after step" in site.shown("queue-run", "execution.log")
    metrics = site.results("queue-run")["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["step"] == 60
    assert metrics["loss"] < metrics["first_loss"]
    command = str(site.results("queue-run")["command"])
    assert "tunestack_train run --name=queue-run --preset=rehearsal" in command
