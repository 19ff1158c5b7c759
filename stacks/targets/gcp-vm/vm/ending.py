"""The end of the VM's time: preemption, the maximum run time, idleness; and what is saved before each."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

from cloud import COMPUTE, authorised, call, get, next_metadata, put, remove, status
from engine import BACKUP_SERVICE, RUN_SERVICE, RUNNER_SERVICE, container_of, docker
from machine import DATA, AgentError

# Google takes a preempted machine away 30 s after the notice.
NOTICE_SECONDS = 30.0
# What is left of it in the end: the backup that gives up needs a moment to unlock its repository.
_RESERVE_SECONDS = 7.0
_STOP_SHARE = 0.6
# Where nothing presses.
UNHURRIED_SECONDS = 600.0
WAIT_SECONDS = 60.0
LEASE = "status/lease.json"


def save_all(config: dict[str, Any], reason: str, within: float) -> str:
    """Stops what trains, which saves a checkpoint, then takes a last snapshot. Says what was done, and never raises."""
    began = time.monotonic()
    said = [reason]
    try:
        said.append(_stop_runs(within))
    except (AgentError, OSError) as error:
        said.append(f"the run could not be stopped: {error}")
    left = within - (time.monotonic() - began) - _RESERVE_SECONDS
    try:
        said.append(_last_snapshot(left))
    except (AgentError, OSError, ValueError, LookupError) as error:
        said.append(f"no last snapshot: {error}")
    message = "; ".join(said)
    status(config, "going", message)
    return message


def _stop_runs(within: float) -> str:
    containers = [container_of(service, running=True) for service in (RUN_SERVICE, RUNNER_SERVICE)]
    running = [container for container in containers if container is not None]
    if not running:
        return "nothing was training"
    began = time.monotonic()
    # SIGTERM; whoever has not ended by then is killed, and the last whole checkpoint is the newest.
    grace = within * _STOP_SHARE
    docker("stop", "-t", f"{grace:.0f}", *running, limit=grace + 10)
    exits = docker("inspect", "--format={{.State.ExitCode}}", *running).split()
    how = "with a checkpoint" if "137" not in exits else "by force: its last whole checkpoint is the newest"
    return f"training stopped {how} in {time.monotonic() - began:.1f} s"


def _last_snapshot(within: float) -> str:
    container = container_of(BACKUP_SERVICE, running=True)
    if container is None:
        return "no last snapshot, since training-backup does not run"
    began = time.monotonic()
    command = ["python", "-m", "tunestack_train.backup", "now", f"--within={max(within, 1):.0f}s", "--json"]
    answer = docker("exec", container, *command, limit=max(within, 1) + _RESERVE_SECONDS)
    taken = json.loads(answer.strip().splitlines()[-1])
    return f"snapshot {taken['snapshot_id']} taken in {time.monotonic() - began:.1f} s"


class PreemptionWatch(threading.Thread):
    """Waits at the metadata server for the notice of preemption, and calls `notice` once when it comes."""

    def __init__(self, notice: Callable[[], None]) -> None:
        super().__init__(name="preemption", daemon=True)
        self._notice = notice

    def run(self) -> None:
        etag = "0"
        while True:
            try:
                preempted, etag = next_metadata("instance/preempted", etag, WAIT_SECONDS)
            except (AgentError, OSError, HTTPException):
                time.sleep(1)
                continue
            if preempted.strip() == "TRUE":
                self._notice()
                return


def going_down() -> bool:
    """Whether the whole machine shuts down, and not this service alone.

    The state of the whole system would say that it is starting, until its boot has come to its end.
    """
    question = ["systemctl", "show", "--property=Job,ActiveState", "shutdown.target"]
    asked = subprocess.run(question, capture_output=True, text=True, check=False)  # noqa: S603 - fixed arguments
    # Its job is told by its number, and `Job=` where none is queued.
    return any(re.fullmatch(r"Job=[1-9]\d*|ActiveState=active", line) for line in asked.stdout.splitlines())


# --- time is over --------------------------------------------------------------------------------------------------


def lease_is_over(config: dict[str, Any], generation: str) -> bool:
    """Whether the plan of this generation has had its time, also on a VM that the group brought back after its end.

    The first VM that sees a plan notes when. A new plan, or a start after the group was taken down, has its own time.
    """
    try:
        lease = json.loads(get(config["bucket"], LEASE))
    except FileNotFoundError:
        lease = {}
    if lease.get("plan") != generation:
        put(config["bucket"], LEASE, json.dumps({"plan": generation, "since": time.time()}).encode())
        return False
    maximum: float = config["maximumRunSeconds"]
    # Somewhat before the cloud does it by force, so that a last snapshot is taken and no other VM comes up for nothing.
    over: bool = time.time() - lease["since"] >= maximum - min(300.0, maximum / 10)
    return over


def take_down(config: dict[str, Any], reason: str) -> None:
    """Takes the group of one down to none: nothing costs any more but the disks. AgentError where Google refuses."""
    status(config, "going", reason)
    group = f"{COMPUTE}/compute/v1/projects/{config['project']}/regions/{config['region']}"
    try:
        call(f"{group}/instanceGroupManagers/{config['group']}/resize?size=0", "POST", b"", authorised())
    except (AgentError, FileNotFoundError) as error:
        raise AgentError(f"{reason}; but the group {config['group']} stays and goes on costing: {error}") from None
    # Only now: a lease that is gone would give a VM that stays another maximum run time.
    remove(config["bucket"], LEASE)


class Idleness:
    """How long neither a run nor anybody else has had the GPU at work; an open notebook alone is no work."""

    BUSY_PERCENT = 5
    # What a run writes while it gets on. Its file is written anew every few seconds, whether it gets on or hangs.
    PROGRESS = ("state", "step", "loss", "eval_loss", "last_checkpoint", "exit_code")

    def __init__(self) -> None:
        self._last_work = time.monotonic()
        self._seen = self._progress()

    def seconds(self) -> float:
        seen = self._progress()
        if seen != self._seen or self._gpu_percent() >= self.BUSY_PERCENT:
            self._seen = seen
            self._last_work = time.monotonic()
        return time.monotonic() - self._last_work

    def _progress(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for path in (DATA / "volumes/training_logs").glob("*/status.json"):
            try:
                told = json.loads(path.read_text())
                # A model that is fetched and data that is read have no steps, and keep no GPU busy.
                beat = path.stat().st_mtime if told.get("state") == "preparing" else None
            except (OSError, ValueError):
                continue
            found[path.parent.name] = [beat, *(told.get(name) for name in self.PROGRESS)]
        return found

    @staticmethod
    def _gpu_percent() -> float:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 - fixed
        except (OSError, subprocess.TimeoutExpired):
            # A driver that hangs does no work either.
            return 0.0
        values = [float(line) for line in done.stdout.split() if line.isdigit()]
        return max(values, default=0.0)
