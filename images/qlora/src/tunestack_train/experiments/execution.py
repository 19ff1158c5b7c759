"""One experiment at work: its worktree, its processes, its log, and how it ended."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunestack_train.experiments import supervise
from tunestack_train.experiments.access import no_terminal
from tunestack_train.experiments.devices import Gpu
from tunestack_train.experiments.git import Git, GitError
from tunestack_train.experiments.log_file import LogFile
from tunestack_train.experiments.results import hostname

STOPPED_WITH_CHECKPOINT: Final = 75
_DRAIN_SECONDS: Final = 2.0
# Git adds one worktree at a time.
checking_out: Final = threading.Lock()


@dataclass(frozen=True)
class Job:
    """What is to be run. `command` is what the shell gets, or the arguments of a program."""

    name: str
    command: str | Sequence[str]
    commit: str
    timeout: float
    gpus: tuple[Gpu, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Ending:
    """How it ended: a status, or None for what was stopped on request and is to be run again."""

    status: str | None
    exit_code: int | None
    message: str | None
    seconds: float


class Execution:
    """Runs a job in a thread. `on_end` is called once, from that thread, when `ending` is there."""

    def __init__(
        self, job: Job, git: Git, worktree: Path, output: Path, log: LogFile, grace: float, on_end: Callable[[], None]
    ) -> None:
        self.job = job
        self.output = output
        self.log = log
        self.ending: Ending | None = None
        self.stopped_for: str | None = None
        self._git = git
        self._worktree = worktree
        self._grace = grace
        self._on_end = on_end
        self._control: int | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"experiment {job.name}", daemon=True)

    @property
    def host(self) -> str:
        return hostname()

    def start(self) -> None:
        self._thread.start()

    def stop(self, reason: str) -> None:
        """Ends the processes: TERM, grace, KILL. `reason`: cancelled, returned (to be run again) or lost."""
        with self._lock:
            if self.stopped_for is None:
                self.stopped_for = reason
            self._hang_up()

    def join(self, seconds: float | None = None) -> None:
        self._thread.join(seconds)

    def _hang_up(self) -> None:
        if self._control is not None:
            os.close(self._control)
            self._control = None

    def _run(self) -> None:
        started = time.monotonic()
        try:
            ended = self._check_out_and_supervise()
        except (OSError, GitError) as error:
            ended = {"error": str(error)}
        with self._lock:
            self._hang_up()
        self.log.flush()
        self.ending = self._conclude(ended, time.monotonic() - started)
        self._clean_up()
        self._on_end()

    def _check_out_and_supervise(self) -> Mapping[str, object]:
        self.output.mkdir(parents=True, exist_ok=True)
        with checking_out:
            self._git.check_out(self.job.commit, self._worktree)
        read_report, report = os.pipe()
        read_control, control = os.pipe()
        with self._lock:
            self._control = control
            if self.stopped_for is not None:
                self._hang_up()
        # Isolated from the environment and the site's packages: it starts in a third of the time, and always.
        own = [sys.executable, "-I", "-S", supervise.__file__, f"{self.job.timeout:g}", f"{self._grace:g}", str(report)]
        try:
            process = subprocess.Popen(  # noqa: S603 - running what people push is what this is for
                [*own, "--", *shell_arguments(self.job.command)],
                cwd=self._worktree,
                env=self._environment(),
                stdin=read_control,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(report,),
                start_new_session=True,
            )
        finally:
            os.close(read_control)
            os.close(report)
        with os.fdopen(read_report, "rb") as said:
            self._pump(process)
            process.wait()
            text = said.read()
        loaded: Mapping[str, object] = json.loads(text) if text else {"error": "its supervisor was killed"}
        return loaded

    def _pump(self, process: "subprocess.Popen[bytes]") -> None:
        """Takes the output until it ends, or until the command is over and something else still holds it open."""
        stream = process.stdout
        if stream is None:
            return
        deadline: float | None = None
        with stream:
            while deadline is None or time.monotonic() < deadline:
                ready, _, _ = select.select([stream], [], [], 0.5)
                if ready:
                    data = os.read(stream.fileno(), 1 << 16)
                    if not data:
                        return
                    self.log.write(data)
                elif deadline is None and process.poll() is not None:
                    deadline = time.monotonic() + _DRAIN_SECONDS

    def _environment(self) -> dict[str, str]:
        inherited = no_terminal(os.environ)
        for name in ("LC_ALL", "GIT_TERMINAL_PROMPT", "SSH_ASKPASS"):
            inherited.pop(name, None)
        return inherited | environment_for(self.job, self.output)

    def _conclude(self, ended: Mapping[str, object], seconds: float) -> Ending:
        code = ended.get("exit_code")
        exit_code = code if isinstance(code, int) else None
        reason = ended.get("reason")
        if self.stopped_for is not None and (reason == "asked" or exit_code is None):
            status = "cancelled" if self.stopped_for == "cancelled" else None
            return Ending(status, exit_code, None, seconds)
        if reason == "timeout":
            return Ending("timeout", exit_code, f"ended after {self.job.timeout:g} s, its timeout", seconds)
        if exit_code is None:
            return Ending("error", None, f"could not be run: {ended.get('error', 'its runner was stopped')}", seconds)
        if exit_code == STOPPED_WITH_CHECKPOINT and not isinstance(self.job.command, str):
            return Ending(None, exit_code, "stopped with a checkpoint saved", seconds)
        message = f"ended by signal {-exit_code}" if exit_code < 0 else None
        return Ending("completed" if exit_code == 0 else "failed", exit_code, message, seconds)

    def _clean_up(self) -> None:
        with contextlib.suppress(GitError):
            self._git.remove_worktree(self._worktree)
        shutil.rmtree(self._worktree, ignore_errors=True)


def environment_for(job: Job, output: Path) -> dict[str, str]:
    """What a command is told, wherever it runs."""
    own = {
        "EXPERIMENT_NAME": job.name,
        "EXPERIMENT_OUTPUT_DIR": str(output),
        "EXPERIMENT_COMMIT": job.commit,
        "CUDA_VISIBLE_DEVICES": ",".join(gpu.index for gpu in job.gpus),
    }
    return {"GIT_TERMINAL_PROMPT": "0"} | dict(job.environment) | own


def shell_arguments(command: str | Sequence[str]) -> list[str]:
    """The arguments of a program that runs the command."""
    if not isinstance(command, str):
        return list(command)
    return [shutil.which("bash") or "/bin/sh", "-c", command]
