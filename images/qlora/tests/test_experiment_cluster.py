"""Experiments as jobs of a cluster: the runner as a process, against a bare repository and a fake API server."""

import json
import re
import signal
import string
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_cluster import JOBS, PODS, FakeCluster
from queue_site import Site, git, wait_for
from tunestack_train.experiments.cluster import first_process
from tunestack_train.experiments.cluster.manifest import Named, Template, ending_of
from tunestack_train.experiments.devices import Gpu
from tunestack_train.experiments.execution import Job

# What `k8s/render-experiments.ts` renders, as far as the runner touches it; test/golden has the whole.
TEMPLATE: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {
        "namespace": "tunestack-team",
        "labels": {"app.kubernetes.io/name": "experiment", "kueue.x-k8s.io/queue-name": "runs"},
        "annotations": {"tunestack.dev/most-gpus": "4"},
    },
    "spec": {
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]},
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/name": "experiment"}},
            "spec": {
                "containers": [
                    {
                        "name": "experiment",
                        "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}],
                        "resources": {"requests": {"cpu": "4"}, "limits": {"cpu": "4"}},
                    }
                ]
            },
        },
    },
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path).make()
    yield made
    made.end()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    folder = tmp_path / "service-account"
    folder.mkdir()
    (tmp_path / "job.json").write_text(json.dumps(TEMPLATE))
    made = FakeCluster(folder).start()
    yield made
    made.stop()


def options(cluster: FakeCluster) -> tuple[str, ...]:
    template = cluster.folder.parent / "job.json"
    return (f"--job-template={template}", "--job-poll=100ms", f"--service-account={cluster.folder}")


def start(site: Site, cluster: FakeCluster, name: str = "first") -> "subprocess.Popen[bytes]":
    command = [one for one in site.command(name, *options(cluster)) if one != "--gpus-on-cpu"]
    log = (site.folder / f"{name}.log").open("ab")
    environment = site.environment(cluster.environment)
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    site.logs.append(log)
    site.processes.append(process)
    return process


def is_over(site: Site, name: str) -> bool:
    return site.status(name) not in {"pending", "running"}


def waits(cluster: FakeCluster) -> bool:
    return any(job["spec"]["suspend"] for job in cluster.jobs.values())


def test_an_experiment_is_a_job_with_its_command_worktree_gpus_and_time(site: Site, cluster: FakeCluster) -> None:
    command = (
        'cat code.txt; echo "$EXPERIMENT_NAME $CUDA_VISIBLE_DEVICES"; pwd > "$EXPERIMENT_OUTPUT_DIR/where.txt"; exit 3'
    )
    site.push([{"name": "two.gpus", "command": command, "gpus": 2, "timeout": 77}])
    start(site, cluster)
    wait_for(lambda: is_over(site, "two.gpus"))
    job = cluster.only_job()
    [container] = job["spec"]["template"]["spec"]["containers"]
    for kind in ("requests", "limits"):
        assert container["resources"][kind] == {"cpu": "4", "nvidia.com/gpu": "2"}
    assert container["image"] == "registry.example.com/ml/training@sha256:abc"
    assert "NVIDIA_VISIBLE_DEVICES" not in {one["name"] for one in container["env"]}
    assert container["args"][-2:] == ["-c", command]
    assert job["spec"]["activeDeadlineSeconds"] == 77
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "runs"
    assert [rule for rule in job["spec"]["podFailurePolicy"]["rules"] if "onExitCodes" in rule] == []
    worktree = (site.outputs / "two.gpus" / "where.txt").read_text().strip()
    assert worktree == container["workingDir"]
    assert not Path(worktree).exists()

    results = site.results("two.gpus")
    assert (results["status"], results["exit_code"], results["host"]) == ("failed", 3, "gpu-node-1")
    assert results["image_digest"] == container["image"]
    log = site.shown("two.gpus", "execution.log").splitlines()
    assert "first" in log
    assert "two.gpus 0,1" in log
    assert any("runs on gpu-node-1" in line for line in log)
    assert site.refs("claims") == []
    # Nothing beyond what its role allows: k8s/render-experiments.ts.
    for verb, path in set(cluster.requests):
        allowed = {"GET": (JOBS, PODS), "POST": (JOBS,), "PATCH": (f"{JOBS}/",), "DELETE": (f"{JOBS}/",)}[verb]
        assert path in allowed or path.startswith(f"{JOBS}/") or path.endswith("/log"), (verb, path)


def test_waiting_in_the_queue_is_neither_timeout_nor_silence(site: Site, cluster: FakeCluster) -> None:
    cluster.admits = False
    site.push([{"name": "patient", "command": "sleep 0.2", "timeout": 2}])
    start(site, cluster)
    wait_for(lambda: waits(cluster))
    claim = "refs/tunestack/claims/patient"
    before = git(site.server, "rev-parse", claim)
    # Longer than the timeout and than the lease, which is 3 s.
    time.sleep(4)
    assert site.status("patient") == "running"
    # It is renewed while the job waits, and says that it does.
    wait_for(lambda: git(site.server, "rev-parse", claim) != before)
    wait_for(lambda: "waits in the queue of the cluster" in git(site.server, "show", f"{claim}:execution.log"))
    cluster.admit(cluster.only_job()["metadata"]["name"])
    wait_for(lambda: is_over(site, "patient"))
    assert site.status("patient") == "completed"
    assert len(cluster.asked("POST")) == 1


def test_the_timeout_counts_from_the_start(site: Site, cluster: FakeCluster) -> None:
    site.push([{"name": "slow", "command": "sleep 60", "timeout": 1}])
    start(site, cluster)
    wait_for(lambda: is_over(site, "slow"))
    results = site.results("slow")
    assert (results["status"], results["message"]) == ("timeout", "ended after 1 s, its timeout")


def test_a_cancelled_one_loses_its_job_and_its_processes_end(site: Site, cluster: FakeCluster) -> None:
    trap = 'trap "echo told > $EXPERIMENT_OUTPUT_DIR/told.txt; exit" TERM'
    command = f"{trap}; touch $EXPERIMENT_OUTPUT_DIR/on; sleep 60 & wait"
    site.push([{"name": "long", "command": command}])
    start(site, cluster)
    wait_for((site.outputs / "long" / "on").exists)
    site.edit(lambda entries: entries[0].update(status="cancelled"))
    wait_for(lambda: site.refs("claims") == [])
    assert site.status("long") == "cancelled"
    assert cluster.jobs == {}
    assert wait_for((site.outputs / "long" / "told.txt").exists), "TERM has reached the command"


def test_a_waiting_one_can_be_cancelled(site: Site, cluster: FakeCluster) -> None:
    cluster.admits = False
    site.push([{"name": "patient", "command": "true"}])
    start(site, cluster)
    wait_for(lambda: waits(cluster))
    site.edit(lambda entries: entries[0].update(status="cancelled"))
    wait_for(lambda: site.refs("claims") == [])
    assert cluster.jobs == {}


GATE = "echo before; until [ -e {gate} ]; do sleep 0.05; done; echo after"


def gated(site: Site) -> tuple[Path, str]:
    gate = site.folder / "gate"
    return gate, GATE.format(gate=gate)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_goes_on_without_its_runner_which_takes_it_up_again(
    site: Site, cluster: FakeCluster, number: signal.Signals
) -> None:
    gate, command = gated(site)
    site.push([{"name": "steady", "command": command, "timeout": 60}])
    runner = start(site, cluster)
    wait_for(lambda: "before" in git(site.server, "show", "refs/tunestack/claims/steady:execution.log", check=False))
    runner.send_signal(number)
    runner.wait()
    gate.touch()
    wait_for(lambda: "status" in cluster.only_job() and cluster.only_job()["status"].get("conditions"))
    start(site, cluster)
    wait_for(lambda: is_over(site, "steady"))
    assert "steady: taken up again (attempt 1)" in site.said()
    assert len(cluster.asked("POST")) == 1
    attempt = site.entries()["steady"]["attempt"]
    assert isinstance(attempt, dict)
    assert (attempt["number"], attempt.get("lost"), attempt["exit_code"]) == (1, None, 0)
    log = site.shown("steady", "execution.log").splitlines()
    assert "after" in log
    assert log.index("before") < log.index("after")


def test_a_runner_without_its_folder_finds_the_job_by_its_labels(site: Site, cluster: FakeCluster) -> None:
    gate, command = gated(site)
    site.push([{"name": "found", "command": command, "timeout": 60}])
    runner = start(site, cluster)
    wait_for(lambda: len(cluster.running) == 1)
    wait_for(lambda: site.status("found") == "running")
    attempt = site.entries()["found"]["attempt"]
    assert isinstance(attempt, dict)
    runner.kill()
    runner.wait()
    start(site, cluster, "second")
    wait_for(lambda: "attempt 2" in site.said("second"))
    gate.touch()
    wait_for(lambda: is_over(site, "found"))
    assert len(cluster.asked("POST")) == 1
    results = site.results("found")
    assert (results["status"], results["attempt"], results["runner"]) == ("completed", 2, "second")
    assert results["commit"] == attempt["commit"], "what it was begun from"


def test_what_is_nobody_s_any_more_is_ended(site: Site, cluster: FakeCluster) -> None:
    _, command = gated(site)
    site.push([{"name": "orphan", "command": command}])
    runner = start(site, cluster)
    wait_for(lambda: len(cluster.running) == 1)
    runner.kill()
    runner.wait()
    # Meanwhile another runner, of another cluster, has taken it over and finished it.
    done = {"number": 2, "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:01Z"}
    site.edit(lambda entries: entries[0].update(status="completed", attempt=done))
    git(site.server, "update-ref", "-d", "refs/tunestack/claims/orphan")
    start(site, cluster)
    wait_for(lambda: cluster.jobs == {})
    assert site.status("orphan") == "completed"


def test_a_job_whose_place_is_taken_away_waits_and_runs_again(site: Site, cluster: FakeCluster) -> None:
    gate, command = gated(site)
    site.push([{"name": "modest", "command": command}])
    start(site, cluster)
    wait_for(lambda: len(cluster.running) == 1)
    name = cluster.only_job()["metadata"]["name"]
    wait_for(lambda: "before" in (site.outputs / "modest" / "execution.log").read_text())
    cluster.suspend(name)
    wait_for(lambda: "waits in the queue" in (site.outputs / "modest" / "execution.log").read_text())
    gate.touch()
    cluster.admit(name)
    wait_for(lambda: is_over(site, "modest"))
    assert site.results("modest")["exit_code"] == 0
    assert site.shown("modest", "execution.log").splitlines().count("before") == 2


def test_an_api_server_that_is_away_is_waited_for(site: Site, cluster: FakeCluster) -> None:
    cluster.answer = 503
    site.push([{"name": "later", "command": "echo done"}])
    start(site, cluster)
    wait_for(lambda: "cluster" in site.problems())
    assert site.status("later") == "pending"
    cluster.answer = None
    wait_for(lambda: is_over(site, "later"))
    assert site.status("later") == "completed"
    wait_for(lambda: site.problems() == set())


def test_a_job_that_the_cluster_refuses_is_an_error_with_its_words(site: Site, cluster: FakeCluster) -> None:
    site.push([])
    start(site, cluster)
    wait_for(lambda: cluster.asked("GET"))
    wait_for(lambda: site.refs("runners") == ["first"])
    cluster.answer = 422
    site.push([{"name": "refused", "command": "true"}])
    wait_for(lambda: is_over(site, "refused"))
    assert site.status("refused") == "error"
    assert "could not be queued" in str(site.results("refused")["message"])
    assert "422 the fake cluster was told to say so" in str(site.results("refused")["message"])


def test_more_gpus_than_the_queue_has_are_left_for_another_runner(site: Site, cluster: FakeCluster) -> None:
    site.push([{"name": "huge", "command": "true", "gpus": 8}, {"name": "small", "command": "true"}])
    start(site, cluster)
    wait_for(lambda: is_over(site, "small"))
    assert site.status("huge") == "pending"


def test_a_log_that_cannot_be_had_is_told_and_changes_nothing(site: Site, cluster: FakeCluster) -> None:
    cluster.logs = False
    site.push([{"name": "mute", "command": "echo unheard"}])
    start(site, cluster)
    wait_for(lambda: is_over(site, "mute"))
    assert site.status("mute") == "completed"
    assert "cannot be had" in site.shown("mute", "execution.log")


def test_without_a_service_account_it_says_what_is_missing(site: Site, cluster: FakeCluster) -> None:
    done = site.once("first", *options(cluster))
    assert done.returncode == 2
    assert "there is no API server to submit jobs to" in done.stderr


def test_a_server_with_another_certificate_is_not_talked_to(site: Site, cluster: FakeCluster, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    foreign = FakeCluster(other).start()
    try:
        (cluster.folder / "ca.crt").write_bytes((other / "ca.crt").read_bytes())
        site.push([{"name": "safe", "command": "true"}])
        start(site, cluster)
        wait_for(lambda: "cluster" in site.problems())
        assert cluster.requests == []
    finally:
        foreign.stop()


# --- pure ------------------------------------------------------------------------------------------------------------


def test_a_run_of_tunestack_is_started_again_after_a_stop_with_a_checkpoint() -> None:
    job = Job("tuned", ["python", "-m", "tunestack_train", "run"], "abc", 60, (Gpu("0"),), {})
    made = Template(TEMPLATE).job(Named("q", "tuned", 1), job, Path("/w"), {}, "image")
    rules = json.loads(json.dumps(made))["spec"]["podFailurePolicy"]["rules"]
    assert rules[-1] == {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}}
    assert len(TEMPLATE["spec"]["podFailurePolicy"]["rules"]) == 1, "the template stays as it is"


NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)


@given(name=NAMES, number=st.integers(1, 9999))
def test_every_experiment_has_a_name_and_labels_that_a_cluster_takes(name: str, number: int) -> None:
    named = Named("0123456789abcdef", name, number)
    # A pod's name is its job's with six more characters, and is a label of 63 at most.
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", named.object_name), named.object_name
    assert len(named.object_name) <= 57
    for value in named.labels.values():
        assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", str(value))
    assert set(named.object_name) <= set(string.ascii_lowercase + string.digits + "-")


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [(3, "Error", (3, None)), (255, "Error", (255, None)), (143, "Error", (-15, "ended by signal 15"))],
)
def test_how_a_container_ended_is_told_as_of_a_process(code: int, reason: str, told: tuple[int, str | None]) -> None:
    failed: dict[str, Any] = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    pod: dict[str, Any] = {
        "status": {"containerStatuses": [{"state": {"terminated": {"exitCode": code, "reason": reason}}}]}
    }
    ending = ending_of({"status": {"conditions": [failed]}}, pod, 60)
    assert ending is not None
    assert (ending.status, ending.exit_code, ending.message) == ("failed", *told)


def test_a_container_out_of_memory_says_so() -> None:
    failed: dict[str, Any] = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
    pod: dict[str, Any] = {
        "status": {"containerStatuses": [{"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]}
    }
    ending = ending_of({"status": {"conditions": [failed]}}, pod, 60)
    assert ending is not None
    assert "memory" in str(ending.message)


def test_a_job_that_somebody_deletes_is_an_error(site: Site, cluster: FakeCluster) -> None:
    site.push([{"name": "gone", "command": "sleep 60"}])
    start(site, cluster)
    wait_for(lambda: len(cluster.running) == 1)
    cluster.remove(cluster.only_job()["metadata"]["name"])
    wait_for(lambda: is_over(site, "gone"))
    assert site.results("gone")["message"] == "its job was deleted"


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 5", 5), ("kill -9 $$", 137), ("true", 0), ("trap 'exit 9' TERM; echo ready; sleep 60 & wait", 9)],
)
def test_the_first_process_ends_as_its_command_and_hands_term_on(command: str, code: int) -> None:
    own = [sys.executable, "-I", "-S", first_process.__file__]
    process = subprocess.Popen([*own, "/bin/sh", "-c", command], stdout=subprocess.PIPE)
    if "ready" in command:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
    assert process.wait(timeout=30) == code
