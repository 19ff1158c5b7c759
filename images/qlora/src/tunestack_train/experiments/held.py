"""An experiment that this runner has: its claim, its processes, and what becomes of both."""

import time
from dataclasses import dataclass, field
from typing import Final

from tunestack_train.experiments.board import Attempt, Change, Item
from tunestack_train.experiments.devices import Gpu
from tunestack_train.experiments.format import ENDS
from tunestack_train.experiments.json_text import indented
from tunestack_train.experiments.positions import Json
from tunestack_train.experiments.results import (
    LOG,
    LOG_BYTES_IN_GIT,
    RESULTS,
    files_for_git,
    hostname,
    metrics_of_command,
    metrics_of_run,
    now,
    size_of,
    write_atomically,
)
from tunestack_train.experiments.work import Work
from tunestack_train.notify import Word

# So many that chance alone does not get there, and that what brings its machine down does.
MOST_LOST: Final = 5
_CLAIM_LOG_BYTES: Final = 16 << 10


@dataclass(frozen=True)
class Runner:
    """Who runs: as claims and results name it. `instance` tells apart two runners that were given one name."""

    name: str
    instance: str
    image_digest: str | None


@dataclass
class Held:
    """`claim` is the commit of the claim on the server; `attempted` those of pushes whose answer was never seen."""

    item: Item
    runner: Runner
    attempt: Attempt
    gpus: tuple[Gpu, ...]
    claim: str
    lease: float
    attempted: set[str] = field(default_factory=set)
    beat: int = 0
    execution: Work | None = None
    change: Change | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    results: dict[str, Json] = field(default_factory=dict)
    began: float = field(default_factory=time.time)

    @property
    def number(self) -> int:
        number = self.attempt["number"]
        return number if isinstance(number, int) else 0

    def claim_files(self) -> dict[str, bytes]:
        """What the claim's commit holds."""
        return claim_files(self.item.name, self.runner, self.attempt, self.beat, self.lease, self.gpus) | {
            LOG: self.execution.log.tail(_CLAIM_LOG_BYTES) if self.execution else b""
        }

    def conclude(self) -> OSError | None:
        """Turns the end of the processes into status, results and files. Returns why results could not be kept here."""
        execution = self.execution
        if execution is None or execution.ending is None:
            raise AssertionError("it has not ended")
        ending = execution.ending
        # Of work that was taken over it is the commit which that was begun from.
        attempt = self.attempt | {"ended_at": now(), "commit": execution.job.commit}
        if ending.exit_code is not None:
            attempt["exit_code"] = ending.exit_code
        if ending.message is not None:
            attempt["message"] = ending.message
        status = ending.status
        if status is None:
            status = "pending"
            attempt.setdefault("message", f"given back by {self.runner.name}")
        elif status in {"failed", "timeout", "error"}:
            failures = self.item.count("failures") + 1
            attempt["failures"] = failures
            status = "pending" if failures <= self.item.retries else status
        self.change = Change(status, attempt, self.item.entry)
        self.results = self._results(ending.status or "returned", ending.seconds, attempt)
        failure: OSError | None = None
        try:
            write_atomically(execution.output / RESULTS, indented(self.results) + "\n")
        except OSError as error:
            failure = error
        self.files = files_for_git(self.item.name, self.results, execution.log.tail(LOG_BYTES_IN_GIT), execution.output)
        return failure

    def outcome(self) -> str:
        """How it ended, for the runner's log."""
        if self.change is None or self.execution is None or self.execution.ending is None:
            return "running"
        ending, message = self.execution.ending, self.change.attempt.get("message")
        retried = ", to be tried again" if self.change.status == "pending" and ending.status else ""
        if message is None and ending.status == "failed":
            message = f"exit code {ending.exit_code}"
        because = f" ({message})" if message else ""
        return f"{ending.status or 'given back'}{retried}{because} after {ending.seconds:.0f} s"

    def word(self, link: str | None) -> Word | None:
        """What people are told; None where it goes on elsewhere, or later."""
        if self.change is None or self.change.status not in ENDS or self.change.status == "cancelled":
            return None
        status, metrics = self.change.status, self.results.get("metrics")
        said = [str(self.results["message"])] if self.results.get("message") else []
        if status == "failed" and self.results.get("exit_code") is not None:
            said.append(f"exit code {self.results['exit_code']}")
        if isinstance(metrics, dict):
            said += [f"{key} {value:g}" for key, value in metrics.items() if isinstance(value, int | float)]
        seconds = self.execution.ending.seconds if self.execution and self.execution.ending else None
        details = "; ".join([*said, f"on {self.runner.name}"])
        return Word(f"experiment {self.item.name}: {status}", status == "completed", seconds, details, link)

    def _results(self, status: str, seconds: float, attempt: Attempt) -> dict[str, Json]:
        execution = self.execution
        if execution is None:
            raise AssertionError("it was not started")
        size, count = size_of(execution.output)
        command = execution.job.command
        metrics = metrics_of_command(execution.output, self.began)
        return {
            "schema": 1,
            "name": self.item.name,
            "status": status,
            "attempt": self.number,
            "exit_code": attempt.get("exit_code"),
            "message": attempt.get("message"),
            "started_at": attempt.get("started_at"),
            "ended_at": attempt.get("ended_at"),
            "seconds": round(seconds, 3),
            "commit": execution.job.commit,
            "image_digest": self.runner.image_digest,
            "runner": self.runner.name,
            "host": execution.host,
            "gpus": [dict(gpu.as_dict()) for gpu in self.gpus],
            "command": execution.log.shown(command if isinstance(command, str) else " ".join(command)),
            "matrix": dict(self.item.values) if self.item.parent else None,
            "metrics": metrics_of_run(self.item.name) if metrics is None and self.item.is_run else metrics,
            "outputs": str(execution.output),
            "outputs_bytes": size,
            "outputs_files": count,
        }


def claim_files(
    name: str, runner: Runner, attempt: Attempt, beat: int, lease: float, gpus: tuple[Gpu, ...]
) -> dict[str, bytes]:
    """`claim.json` as the files of a commit."""
    content: dict[str, Json] = {
        "schema": 1,
        "experiment": name,
        "runner": runner.name,
        "instance": runner.instance,
        "host": hostname(),
        "attempt": attempt["number"],
        "beat": beat,
        "lease_seconds": lease,
        "started_at": attempt["started_at"],
        "gpus": [dict(gpu.as_dict()) for gpu in gpus],
    }
    return {"claim.json": f"{indented(content)}\n".encode()}
