"""The agent against a fake cloud: what it fetches, starts, watches and saves, and what it says when something fails."""

import json
import os
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import agent
import cloud
import content
import disk
import ending
import plan
from machine import AgentError, write_aside

if TYPE_CHECKING:
    from conftest import Vm

RUN = {
    "services": {
        "tensorboard": {"labels": {}},
        "training-backup": {"labels": {}},
        "qlora-training": {
            "labels": {"dev.tunestack.specification": "wanted"},
            "environment": {"TUNESTACK_RUN": "first"},
        },
    },
    "volumes": {},
    "x-tunestack": {"run": "qlora-training", "replaceRunning": False},
    "name": "tunestack",
}

# Answers from files of the test: what `ps` finds, what a container's state is, what fails.
DOCKER = """
here={root}
all="$*"
case "$all" in
  *" config "*) cat $here/plan.json ;;
  *" up "*) name="${{@: -1}}"; [[ ! -e $here/fails-$name ]] || {{ echo "no such image" >&2; exit 1; }} ;;
  *" run "*) [[ ! -e $here/restore-fails ]] || {{ echo "no route to host" >&2; exit 1; }}; cat $here/restored.json ;;
  "ps "*project=*) cat $here/orphans 2> /dev/null ;;
  "ps "*) service="${{all##*compose.service=}}"; cat "$here/is-${{service%% *}}" 2> /dev/null ;;
  "inspect --format"*) cat $here/exit-code ;;
  "inspect "*) cat $here/inspected.json ;;
  "exec "*) cat $here/snapshot.json ;;
esac
"""


@pytest.fixture
def planned(vm: "Vm") -> "Vm":
    """A VM whose bucket has a plan with a run, and a Docker that brings everything up."""
    vm.program("docker", DOCKER.format(root=vm.root) + "\nexit 0")
    vm.program("nvidia-smi", "echo 0")
    vm.program("systemctl", "echo running")
    vm.cloud.put("plan/compose.yaml", b"services: {}")
    (vm.root / "plan.json").write_text(json.dumps(RUN))
    (vm.root / "restored.json").write_text('{"snapshot_id": null, "restored": []}\n')
    (vm.root / "snapshot.json").write_text('{"snapshot_id": "abc123"}\n')
    (vm.root / "exit-code").write_text("75\n")
    return vm


def told(vm: "Vm") -> dict[str, str]:
    status: dict[str, str] = json.loads(vm.object("status/vm.json") or b"{}")
    return status


def inspected(vm: "Vm", specification: str, status: str, exit_code: int = 0) -> None:
    """The run's container is there."""
    (vm.root / "is-qlora-training").write_text("c1\n")
    state = {"Running": status == "running", "Status": status, "ExitCode": exit_code}
    labels = {"dev.tunestack.specification": specification}
    (vm.root / "inspected.json").write_text(json.dumps([{"State": state, "Config": {"Labels": labels}}]))


def started(vm: "Vm") -> list[str]:
    """What was brought up, in order."""
    return [line.split()[-1] for line in vm.asked() if " up --detach " in line]


# --- status ----------------------------------------------------------------------------------------------------------


def test_the_status_says_where_and_how_far(vm: "Vm", capsys: pytest.CaptureFixture[str]) -> None:
    cloud.status(vm.config, "booting", "installing")
    assert capsys.readouterr().out == "tunestack: booting: installing\n"
    status = told(vm)
    assert (status["stage"], status["message"], status["zone"]) == ("booting", "installing", "us-central1-b")
    assert (status["instance"], status["machineType"]) == ("tunestack-prod-x1", "g2-standard-8")


def test_a_bucket_that_cannot_be_reached_stops_nothing(
    vm: "Vm", monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cloud, "STORAGE", "http://127.0.0.1:9")
    cloud.status(vm.config, "booting", "installing")
    assert "the status could not be written: POST http://127.0.0.1:9" in capsys.readouterr().out


# --- secrets and inputs ----------------------------------------------------------------------------------------------


def test_secrets_are_files_that_their_user_alone_reads_and_that_nobody_prints(
    vm: "Vm", capsys: pytest.CaptureFixture[str]
) -> None:
    (vm.cloud.root / "secrets" / "tunestack-prod-jupyter-token").write_text("s3cret-value")
    content.fetch_secrets(vm.config)
    file = vm.run / "secrets" / "jupyter-token"
    assert file.read_text() == "s3cret-value"
    assert file.stat().st_mode & 0o777 == 0o400
    if os.geteuid() == 0:
        assert file.stat().st_uid == 1000
    assert (vm.run / "secrets").stat().st_mode & 0o777 == 0o711
    assert not (vm.run / "secrets" / "hf-token").exists()
    # Again, with another value, as after a restart of the agent.
    (vm.cloud.root / "secrets" / "tunestack-prod-jupyter-token").write_text("another")
    content.fetch_secrets(vm.config)
    assert file.read_text() == "another"
    (vm.cloud.root / "secrets" / "tunestack-prod-jupyter-token").unlink()
    content.fetch_secrets(vm.config)
    assert not file.exists()
    printed = capsys.readouterr()
    assert "s3cret-value" not in printed.out + printed.err + "".join(vm.requests())


def test_all_secrets_that_are_denied_are_named_with_what_to_do(vm: "Vm") -> None:
    for name in ("jupyter-token", "hf-token"):
        (vm.cloud.root / "denied" / f"tunestack-prod-{name}").touch()
    with pytest.raises(AgentError, match=r"tunestack-prod-jupyter-token, tunestack-prod-hf-token .*npx pulumi up"):
        content.fetch_secrets(vm.config)


def test_inputs_follow_the_bucket(vm: "Vm") -> None:
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        vm.cloud.put(f"inputs/data/{name}", name.encode())
    content.fetch_inputs(vm.config)
    folder = vm.data / "inputs" / "data"
    assert sorted(path.name for path in folder.iterdir()) == ["a.jsonl", "b.jsonl", "c.jsonl"]
    downloads = sum("alt=media" in line for line in vm.requests())
    assert downloads == 3
    vm.cloud.put("inputs/data/b.jsonl", b"other rows")
    (vm.cloud.root / "bucket/inputs/data/c.jsonl").unlink()
    content.fetch_inputs(vm.config)
    # A file that is gone from a folder of data must not be trained on.
    assert sorted(path.name for path in folder.iterdir()) == ["a.jsonl", "b.jsonl"]
    assert (folder / "b.jsonl").read_bytes() == b"other rows"
    assert sum("alt=media" in line for line in vm.requests()) == downloads + 1


def test_a_download_that_differs_from_its_hash_is_no_input(vm: "Vm") -> None:
    vm.cloud.put("inputs/data/a.jsonl", b"rows")
    item = {"name": "inputs/data/a.jsonl", "md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="}
    with pytest.raises(AgentError, match="differs from its hash"):
        cloud.download(vm.config["bucket"], item, vm.data / "a.jsonl")
    assert list(vm.data.iterdir()) == []


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    (tmp_path / ".token.new").write_text("left by a crash")
    (tmp_path / ".token.new").chmod(0o666)
    write_aside(tmp_path / "token", b"whole", 0o400)
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o400
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


# --- disk ------------------------------------------------------------------------------------------------------------


def attaches(vm: "Vm") -> list[str]:
    return [line for line in vm.requests() if line.endswith("/attachDisk")]


def attach_program(vm: "Vm", script: str) -> None:
    file = vm.cloud.root / "attach"
    file.write_text(f"#!/bin/bash\n{script}\n")
    file.chmod(0o755)


def test_the_disk_of_this_zone_is_attached_once(vm: "Vm") -> None:
    attach_program(vm, f"touch {vm.root}/disk")
    disk.attach_disk(vm.config)
    disk.attach_disk(vm.config)
    assert len(attaches(vm)) == 1
    assert "/zones/us-central1-b/instances/tunestack-prod-x1/attachDisk" in attaches(vm)[0]


def test_a_disk_that_the_machine_before_still_holds_is_waited_for(vm: "Vm") -> None:
    attach_program(vm, f"touch {vm.root}/disk")
    refusal = vm.cloud.root / "attach-error"
    refusal.write_text('{"error": {"errors": [{"reason": "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"}]}}')
    threading.Timer(0.2, refusal.unlink).start()
    disk.attach_disk(vm.config)
    assert len(attaches(vm)) > 2


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "another machine holds the disk tunestack-prod-data-us-central1-b"),
        ("Required 'compute.disks.use' permission", "could not be attached: .*compute.disks.use"),
        (None, "did not appear within two minutes"),
    ],
)
def test_a_disk_that_cannot_be_had_is_told(
    vm: "Vm", monkeypatch: pytest.MonkeyPatch, refusal: str | None, message: str
) -> None:
    monkeypatch.setattr(disk, "HELD_SECONDS", 0.1)
    monkeypatch.setattr(disk, "APPEARS_SECONDS", 0.1)
    if refusal is not None:
        (vm.cloud.root / "attach-error").write_text(refusal)
    with pytest.raises(AgentError, match=message):
        disk.attach_disk(vm.config)


# --- plan ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "ended", "replace", "names", "message"),
    [
        (None, None, False, True, "starting"),
        (None, "wanted", False, False, "has ended"),
        (None, "another", False, True, "starting"),
        (("running", "wanted"), None, False, False, "goes on"),
        (("running", "another"), None, False, False, "not replaced"),
        (("running", "another"), None, True, True, "starting"),
        (("exited", "wanted"), None, False, True, "starting"),
    ],
)
def test_what_is_started(
    found: tuple[str, str] | None, ended: str | None, replace: bool, names: bool, message: str
) -> None:
    wanted = {**RUN, "x-tunestack": {"run": "qlora-training", "replaceRunning": replace}}
    seen = None if found is None else {"state": {"Running": found[0] == "running"}, "specification": found[1]}
    services, said = plan.services_to_start(wanted, seen, ended)
    assert services == ["tensorboard", "training-backup", *(["qlora-training"] if names else [])]
    assert message in said
    without = {"services": {"tensorboard": {}}, "x-tunestack": {}}
    assert plan.services_to_start(without, None, None) == (["tensorboard"], "the services are up")


def test_the_newest_checkpoint_comes_back_before_anything_could_save_an_older_one(planned: "Vm") -> None:
    (planned.root / "restored.json").write_text('{"snapshot_id": "5eed", "restored": ["/checkpoints/first"]}\n')
    plan.apply_plan(planned.config)
    asked = [line for line in planned.asked() if " run " in line or " up " in line]
    assert asked[0].endswith("training-backup python -m tunestack_train.backup restore --run=first --if-newer --json")
    assert started(planned) == ["tensorboard", "training-backup", "qlora-training"]
    assert told(planned)["stage"] == "up"
    assert "from snapshot 5eed, which is newer than this disk" in told(planned)["message"]


def test_where_the_backup_runs_already_this_disk_is_the_newest(planned: "Vm") -> None:
    (planned.root / "is-training-backup").write_text("c2\n")
    plan.apply_plan(planned.config)
    assert not any("--if-newer" in line for line in planned.asked())
    assert started(planned)[-1] == "qlora-training"


def test_a_run_waits_where_nobody_can_tell_what_is_newer(planned: "Vm") -> None:
    (planned.root / "restore-fails").touch()
    with pytest.raises(AgentError, match=r"the run waits.*no route to host"):
        plan.apply_plan(planned.config)
    # The backup waits too: what it would save now would look newer than what is in the bucket.
    assert started(planned) == ["tensorboard"]


def test_a_service_that_does_not_come_up_keeps_no_other_one_down(planned: "Vm") -> None:
    (planned.root / "fails-tensorboard").touch()
    with pytest.raises(AgentError, match="tensorboard does not come up: docker compose: no such image"):
        plan.apply_plan(planned.config)
    assert started(planned)[-1] == "qlora-training"


def test_orphans_go_and_a_run_in_progress_does_not(planned: "Vm") -> None:
    services = {"name": "tunestack", "services": {"tensorboard": {}}}
    (planned.root / "orphans").write_text("c1 jupyter running\nc2 qlora-training running\nc3 tensorboard exited\n")
    plan.remove_orphans(services)
    assert [line for line in planned.asked() if " rm " in line] == ["docker rm --force c1"]


def test_the_registry_is_opened_without_an_argument_that_shows_the_token(planned: "Vm") -> None:
    plan.apply_plan(planned.config)
    logins = [line for line in planned.asked() if " login " in line]
    assert logins == ["docker login --username oauth2accesstoken --password-stdin us-central1-docker.pkg.dev"]


@pytest.mark.parametrize(
    ("status", "code", "leaving", "noted"),
    [
        ("exited", 0, False, True),
        ("exited", 75, False, True),
        ("exited", 75, True, False),
        ("exited", 4, False, False),
        ("running", 0, False, False),
    ],
)
def test_which_end_is_for_good(planned: "Vm", status: str, code: int, leaving: bool, noted: bool) -> None:
    inspected(planned, "wanted", status, code)
    plan.note_ended_run(planned.config, lambda: leaving)
    assert (plan.ended_run(planned.config) == "wanted") == noted


def test_a_run_that_is_started_again_goes_on_on_the_next_vm(planned: "Vm") -> None:
    inspected(planned, "wanted", "exited", 75)
    plan.note_ended_run(planned.config, lambda: False)
    inspected(planned, "wanted", "running")
    plan.note_ended_run(planned.config, lambda: False)
    assert plan.ended_run(planned.config) is None


def test_a_person_may_have_an_ended_run_start_again(planned: "Vm", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "configuration", lambda: planned.config)
    inspected(planned, "wanted", "exited", 75)
    plan.note_ended_run(planned.config, lambda: False)
    plan.apply_plan(planned.config)
    assert "qlora-training" not in started(planned)
    agent.main(["forget-end"])
    plan.apply_plan(planned.config)
    assert started(planned)[-1] == "qlora-training"


def test_the_status_names_the_plan_that_is_up(planned: "Vm") -> None:
    cloud.status(planned.config, "starting", "tensorboard")
    assert "plan" not in told(planned)
    plan.apply_plan(planned.config)
    assert told(planned)["plan"] == plan.plan_generation(planned.config)


def test_a_plan_that_does_not_come_up_is_not_the_one_that_is(planned: "Vm") -> None:
    (planned.root / "fails-tensorboard").touch()
    with pytest.raises(AgentError):
        plan.apply_plan(planned.config)
    cloud.status(planned.config, "failed", "no such image")
    assert "plan" not in told(planned)


def test_a_missing_plan_says_what_makes_one(vm: "Vm") -> None:
    with pytest.raises(AgentError, match=r"no plan/compose\.yaml in the bucket .*: npx pulumi up"):
        plan.plan_generation(vm.config)


# --- preemption ------------------------------------------------------------------------------------------------------


def wait_for(condition: Callable[[], object], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def test_the_notice_becomes_sigterm_and_a_last_snapshot(planned: "Vm", monkeypatch: pytest.MonkeyPatch) -> None:
    inspected(planned, "wanted", "running")
    (planned.root / "is-training-backup").write_text("c2\n")
    (planned.root / "is-experiment-runner").write_text("c3\n")
    monkeypatch.setattr(agent, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(agent.signal, "signal", lambda *_: None)
    serving = threading.Thread(target=agent.Agent(planned.config).serve)
    serving.start()
    wait_for(lambda: told(planned).get("stage") == "up")
    noticed = time.monotonic()
    planned.cloud.metadata("instance/preempted", "TRUE")
    wait_for(lambda: any(" stop " in line for line in planned.asked()))
    assert time.monotonic() - noticed < 1
    serving.join(timeout=10)
    assert not serving.is_alive()
    saving = [line for line in planned.asked() if " stop " in line or " exec " in line]
    assert saving[0] == "docker stop -t 18 c1 c3"
    assert saving[1].startswith("docker exec c2 python -m tunestack_train.backup now --within=2")
    assert len(saving) == 2
    assert told(planned)["stage"] == "going"
    assert told(planned)["message"].startswith("preempted; training stopped with a checkpoint in ")
    assert "snapshot abc123 taken in" in told(planned)["message"]
    # The run goes on on the next VM.
    assert plan.ended_run(planned.config) is None


def test_what_is_saved_fits_into_the_notice(planned: "Vm", monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the run does not end by itself and the snapshot hangs."""
    inspected(planned, "wanted", "running")
    (planned.root / "is-training-backup").write_text("c2\n")
    planned.program(
        "docker",
        DOCKER.format(root=planned.root).replace('"exec "*) cat', '"exec "*) sleep 9; cat')
        + '\n[[ "$1" != stop ]] || sleep "$(bc <<< "$3 / 20" 2> /dev/null || echo 0.9)"; exit 0',
    )
    (planned.root / "exit-code").write_text("137\n")
    monkeypatch.setattr(ending, "_RESERVE_SECONDS", 0.35)
    began = time.monotonic()
    message = ending.save_all(planned.config, "preempted", 1.5)
    assert time.monotonic() - began < 3
    assert "by force: its last whole checkpoint is the newest" in message
    assert "no last snapshot: docker exec took more than" in message


def test_without_a_backup_or_a_run_it_says_so(planned: "Vm") -> None:
    message = ending.save_all(planned.config, "preempted", 30)
    assert message == "preempted; nothing was training; no last snapshot, since training-backup does not run"


def test_a_restart_of_the_agent_alone_stops_no_run(planned: "Vm", monkeypatch: pytest.MonkeyPatch) -> None:
    inspected(planned, "wanted", "running")
    monkeypatch.setattr(agent, "POLL_SECONDS", 0.05)
    handlers: list[Callable[..., None]] = []
    monkeypatch.setattr(agent.signal, "signal", lambda _, handler: handlers.append(handler))
    for answer, stopped in ((r"ActiveState=inactive\nJob=", False), (r"ActiveState=inactive\nJob=312", True)):
        planned.program("systemctl", f"printf '{answer}\\n'")
        serving = threading.Thread(target=agent.Agent(planned.config).serve)
        serving.start()
        wait_for(lambda: told(planned).get("stage") == "up")
        handlers[-1]()
        serving.join(timeout=10)
        assert any(" stop " in line for line in planned.asked()) == stopped


# --- its time --------------------------------------------------------------------------------------------------------


def lease(vm: "Vm", age: float, generation: str = "1") -> None:
    vm.cloud.put("status/lease.json", json.dumps({"plan": generation, "since": time.time() - age}).encode())


def test_a_plan_has_its_time_from_the_first_vm_on(vm: "Vm") -> None:
    assert not ending.lease_is_over(vm.config, "1")
    assert json.loads(vm.object("status/lease.json") or b"")["plan"] == "1"
    lease(vm, 86200)
    assert not ending.lease_is_over({**vm.config, "maximumRunSeconds": 90000}, "1")
    # A little before the cloud does it by force.
    assert ending.lease_is_over(vm.config, "1")
    # A new plan has a time of its own.
    assert not ending.lease_is_over(vm.config, "2")


def test_a_vm_that_was_brought_back_after_its_time_goes_at_once(
    vm: "Vm", monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vm.cloud.put("plan/compose.yaml", b"services: {}")
    lease(vm, 86400 * 2, plan.plan_generation(vm.config))
    settings = tmp_path / "agent.json"
    settings.write_text(json.dumps(vm.config))
    monkeypatch.setattr(agent, "configuration", lambda: json.loads(settings.read_text()))
    with pytest.raises(SystemExit) as left:
        agent.main(["check-lease"])
    assert left.value.code == agent.OVER
    assert any("instanceGroupManagers/tunestack-prod/resize?size=0" in line for line in vm.requests())
    assert vm.object("status/lease.json") is None
    assert told(vm)["stage"] == "going"


def test_a_group_that_stays_keeps_its_lease(vm: "Vm") -> None:
    lease(vm, 86400)
    (vm.cloud.root / "resize-error").write_text("Required 'compute.instanceGroupManagers.update' permission")
    with pytest.raises(AgentError, match=r"goes on costing.*instanceGroupManagers\.update"):
        ending.take_down(vm.config, "the time is over")
    assert vm.object("status/lease.json") is not None


class Run:
    """A run's status as the training package writes it."""

    def __init__(self, vm: "Vm") -> None:
        self.file = vm.data / "volumes/training_logs/first/status.json"
        self.file.parent.mkdir(parents=True)

    def tell(self, **fields: object) -> None:
        self.file.write_text(json.dumps({"state": "training", "step": 1, "updated_at": time.time_ns(), **fields}))


def test_idle_is_who_neither_steps_nor_uses_the_gpu(vm: "Vm", monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(ending.time, "monotonic", lambda: clock[0])
    vm.program("nvidia-smi", "printf '0\\n2\\n'")
    run = Run(vm)
    run.tell()
    idleness = ending.Idleness()

    def idle_after(seconds: float) -> float:
        clock[0] += seconds
        return idleness.seconds()

    run.tell(step=2)
    assert idle_after(100) == 0
    # Written anew, and not one step further: it hangs.
    run.tell(step=2)
    assert idle_after(100) == 100
    run.tell(step=2, eval_loss=1.5)
    assert idle_after(100) == 0
    # Somebody else's work, such as a notebook's.
    vm.program("nvidia-smi", "printf '0\\n87\\n'")
    assert idle_after(100) == 0
    # A driver that is gone does no work.
    vm.program("nvidia-smi", "echo 'No devices were found' >&2; exit 6")
    assert idle_after(100) == 100
    # A model that is fetched has no steps.
    run.tell(state="preparing", step=0)
    assert idle_after(100) == 0
    os.utime(run.file, (5, 5))
    assert idle_after(100) == 0
    assert idle_after(100) == 100
    run.file.write_text('{"half')
    assert idle_after(1) >= 0


def test_the_time_in_which_images_come_is_not_idle(planned: "Vm", monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(ending.time, "monotonic", lambda: clock[0])

    def slow(_: object) -> None:
        clock[0] += 7200

    monkeypatch.setattr(agent, "apply_plan", slow)
    serving = agent.Agent(planned.config)
    serving._plan()
    serving._idle()
    clock[0] += 1800
    with pytest.raises(SystemExit):
        serving._idle()


def test_the_watch_outlives_a_metadata_server_that_stumbles(vm: "Vm", monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([ConnectionError("503"), HTTPException("half an answer"), ("FALSE", "1"), ("TRUE", "2")])

    def stumbling(_path: str, _etag: str, _wait: float) -> tuple[str, str]:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(ending, "next_metadata", stumbling)
    monkeypatch.setattr(ending.time, "sleep", lambda _: None)
    noticed: list[str] = []
    watch = ending.PreemptionWatch(lambda: noticed.append("noticed"))
    watch.start()
    watch.join(timeout=5)
    assert noticed == ["noticed"]


def test_an_idle_vm_saves_and_goes_though_its_plan_fails(planned: "Vm", monkeypatch: pytest.MonkeyPatch) -> None:
    (planned.root / "is-training-backup").write_text("c2\n")
    (planned.root / "fails-tensorboard").touch()
    monkeypatch.setattr(agent, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(agent.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit):
        agent.Agent({**planned.config, "idleShutdownSeconds": 0.3}).serve()
    assert any(" exec c2 " in line for line in planned.asked())
    assert any("/resize?size=0" in line for line in planned.requests())


def test_what_fails_is_told_once_and_when_it_is_over(planned: "Vm", capsys: pytest.CaptureFixture[str]) -> None:
    serving = agent.Agent(planned.config)
    answers = iter([OSError("no route"), OSError("no route"), AgentError("another"), None, None])

    def action() -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    for _ in range(5):
        serving._attempt("time", action)
    assert capsys.readouterr().out.splitlines() == [
        "tunestack: failed: no route",
        "tunestack: failed: another",
        "tunestack: up: what had failed works again",
    ]
