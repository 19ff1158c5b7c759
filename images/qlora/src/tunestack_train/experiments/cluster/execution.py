"""One experiment as a job: queued, watched, read and ended through the API server."""

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tunestack_train.errors import SettingsError
from tunestack_train.experiments.cluster.api import ClusterError, Object
from tunestack_train.experiments.cluster.jobs import Jobs
from tunestack_train.experiments.cluster.manifest import (
    ending_of,
    has_started,
    is_being_removed,
    is_waiting,
    node_of,
    object_name,
    pod_of,
)
from tunestack_train.experiments.cluster.pod_log import PodLog
from tunestack_train.experiments.execution import Ending, Job
from tunestack_train.experiments.git import Git, GitError
from tunestack_train.experiments.log_file import LogFile
from tunestack_train.experiments.results import hostname

_LONGEST_PAUSE: Final = 60.0


@dataclass(frozen=True)
class Submission:
    """The Job of an attempt, its commit and its worktree. `made`: it is in the cluster already."""

    content: Object
    commit: str
    worktree: Path
    made: bool


class JobExecution:
    """Brings a Job to its end in a thread. `on_end` is called once, from that thread, when `ending` is there."""

    def __init__(
        self,
        job: Job,
        prepare: Callable[[], Submission],
        jobs: Jobs,
        git: Git,
        output: Path,
        log: LogFile,
        on_end: Callable[[], None],
    ) -> None:
        """`prepare` is called in the thread, again where the API server gave no answer."""
        self.job = job
        self.output = output
        self.log = log
        self.ending: Ending | None = None
        self.stopped_for: str | None = None
        self._prepare = prepare
        self._submission: Submission | None = None
        self._made = False
        self._since = 0.0
        self._jobs = jobs
        self._git = git
        self._on_end = on_end
        self._stop = threading.Event()
        self._node: str | None = None
        self._pod_log: PodLog | None = None
        self._read_until: str | None = None
        self._said = ""
        self._thread = threading.Thread(target=self._run, name=f"experiment {job.name}", daemon=True)

    @property
    def host(self) -> str:
        return self._node or hostname()

    def start(self) -> None:
        self._thread.start()

    def stop(self, reason: str) -> None:
        """Ends the job: TERM, the grace of its pod, KILL."""
        self.stopped_for = self.stopped_for or reason
        self._stop.set()

    def join(self, seconds: float | None = None) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        started = time.monotonic()
        try:
            ending = self._bring_to_end()
        except (OSError, GitError, SettingsError) as error:
            ending = Ending("error", None, f"could not be run: {error}", 0.0)
        self._close_log()
        self.log.flush()
        self.ending = ending if ending.seconds else replace(ending, seconds=time.monotonic() - started)
        if self._submission is not None:
            with suppress(GitError):
                self._git.remove_worktree(self._submission.worktree)
            shutil.rmtree(self._submission.worktree, ignore_errors=True)
        self._on_end()

    def _bring_to_end(self) -> Ending:
        failures = 0
        while True:
            try:
                ending = self._step()
                failures = 0
            except ClusterError as error:
                if error.lasting and not self._made:
                    return Ending("error", None, f"could not be queued: {error.message}", 0.0)
                self._say(error.message)
                ending, failures = None, failures + 1
            if ending is not None:
                return ending
            pause = min(_LONGEST_PAUSE, self._jobs.seconds * 2 ** min(failures, 8))
            # What is being ended is looked at as often as before.
            time.sleep(pause) if self._stop.is_set() else self._stop.wait(pause)

    def _step(self) -> Ending | None:
        if self._stop.is_set() and not self._made:
            return self._stopped()
        if self._submission is None:
            self._submission = self._prepare()
            self._made = self._submission.made
            self.job = replace(self.job, commit=self._submission.commit)
            if self._made:
                written = self.log.recall()
                # What was said within the last second of the log comes twice rather than never.
                self._read_until = None if written is None else _rfc3339(written - 1)
        if not self._made:
            self._submit(self._submission.content)
        return self._look(object_name(self._submission.content))

    def _submit(self, content: Object) -> None:
        """A Job of this name that is there already is this attempt's: the answer to an earlier request was lost."""
        try:
            self._jobs.api.create("jobs", content)
        except ClusterError as error:
            if error.status != 409:
                raise
        self._made, self._since = True, self._jobs.now()
        self._say(f"queued as job {object_name(content)}")

    def _look(self, name: str) -> Ending | None:
        job, pods = self._jobs.look(name, self._since)
        if job is None:
            return self._stopped() if self._stop.is_set() else Ending("error", None, "its job was deleted", 0.0)
        pod = pod_of(job, pods)
        self._follow(job, pod)
        ending = ending_of(job, pod, self.job.timeout)
        if self._stop.is_set():
            if not is_being_removed(job):
                self._jobs.api.remove("jobs", name)
            return None
        return ending

    def _stopped(self) -> Ending:
        return Ending("cancelled" if self.stopped_for == "cancelled" else None, None, None, 0.0)

    def _follow(self, job: Object, pod: Object | None) -> None:
        """Reads the newest pod's log, and tells in it when the job waits, and where it runs."""
        if self._pod_log is not None and (pod is None or object_name(pod) != self._pod_log.pod):
            self._close_log()
        if pod is None:
            if is_waiting(job):
                self._say("waits in the queue of the cluster")
            return
        node = node_of(pod)
        if node is not None:
            self._node = node
        if self._pod_log is None and has_started(pod):
            self._say(f"runs on {node} as pod {object_name(pod)}")
            self._pod_log = PodLog(self._jobs.api, object_name(pod), self.log, self._read_until)
            self._pod_log.start()
            # That time was of the pod which was there when the runner was started again.
            self._read_until = None

    def _close_log(self) -> None:
        if self._pod_log is not None:
            self._pod_log.finish()
            self._pod_log = None

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self.log.say(line)


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
