"""Experiments as jobs that the cluster's queue lets start: they go on while there is no runner, and are found again."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunestack_train.experiments.board import Item
from tunestack_train.experiments.cluster.api import Api, Object
from tunestack_train.experiments.cluster.execution import JobExecution, Submission
from tunestack_train.experiments.cluster.jobs import Jobs
from tunestack_train.experiments.cluster.manifest import (
    ATTEMPT_LABEL,
    Named,
    Template,
    commit_of,
    has_ended,
    is_being_removed,
    named_of,
    object_name,
    queue_of,
    worktree_of,
)
from tunestack_train.experiments.devices import Gpu
from tunestack_train.experiments.execution import Job, checking_out, environment_for
from tunestack_train.experiments.jobs import command_of, environment_of
from tunestack_train.experiments.log_file import LogFile
from tunestack_train.experiments.workplace import Workplace

# So many jobs of one runner wait or run at a time; the queue decides which of them run.
_PLACES: Final = 100


class Places:
    """Room for jobs. Which GPUs one gets, the cluster decides; here they have numbers alone."""

    def __init__(self, places: int, most_gpus: int, *, gpus_on_cpu: bool) -> None:
        self._free = places
        self._most_gpus = most_gpus
        self._gpus_on_cpu = gpus_on_cpu

    def could_take(self, gpus: int) -> bool:
        return self._gpus_on_cpu or gpus <= self._most_gpus

    def takes(self, gpus: int) -> bool:  # noqa: ARG002 - a job waits for its GPUs in the queue
        return self._free > 0

    def take(self, gpus: int) -> tuple[Gpu, ...]:
        self._free -= 1
        return () if self._gpus_on_cpu else tuple(Gpu(str(index)) for index in range(gpus))

    def give_back(self, gpus: Iterable[Gpu]) -> None:  # noqa: ARG002
        self._free += 1


class Cluster:
    """An executor whose work is the jobs of one queue in its own namespace."""

    outlives = True

    def __init__(self, workplace: Workplace, api: Api, template: Path, seconds: float) -> None:
        settings = workplace.settings
        self._workplace = workplace
        self._template = template
        self._jobs = Jobs(api, queue_of(settings.url, settings.branch), seconds)
        self._on_cpu = settings.gpus_on_cpu
        self.room = Places(_PLACES, Template.read(template).most_gpus, gpus_on_cpu=self._on_cpu)

    def execute(
        self, item: Item, number: int, commit: str, gpus: tuple[Gpu, ...], wake: Callable[[], None]
    ) -> JobExecution:
        """A new job; or, where a lost runner's attempt is taken over whose job is still there, that job."""
        log = self._workplace.log_of(item.name)
        log.say(self._workplace.head(item.name, number, commit))
        job = Job(item.name, command_of(item), commit, item.timeout, gpus, environment_of(item, number))
        lost = item.number if item.status == "running" else None

        def prepare() -> Submission:
            found = None if lost is None else self.find(item.name, lost)
            if found is None:
                return self._new(job, number)
            self._jobs.api.merge("jobs", object_name(found), {"metadata": {"labels": {ATTEMPT_LABEL: str(number)}}})
            return _again(found)

        return self._execution(job, prepare, log, wake)

    def left(self) -> Sequence["LeftJob"]:
        """Every attempt that has a job, also one that has ended meanwhile. Worktrees of no job are removed."""
        jobs = [job for job in self._jobs.all() if not is_being_removed(job)]
        used = {worktree_of(job) for job in jobs}
        for folder in self._workplace.settings.worktrees.iterdir():
            if folder not in used:
                shutil.rmtree(folder, ignore_errors=True)
        return [LeftJob(*named_of(job), self) for job in jobs]

    def take_up(self, item: Item, number: int, wake: Callable[[], None]) -> JobExecution:
        """The execution of an attempt whose job is there."""
        gpus = () if self._on_cpu else tuple(Gpu(str(index)) for index in range(item.gpus))
        commit = str(item.attempt.get("commit") or "")
        job = Job(item.name, command_of(item), commit, item.timeout, gpus, environment_of(item, number))

        def prepare() -> Submission:
            found = self.find(item.name, number)
            if found is None:
                raise OSError("its job is gone")
            return _again(found)

        return self._execution(job, prepare, self._workplace.log_of(item.name), wake)

    def find(self, name: str, number: int) -> Object | None:
        """The job of an attempt."""
        return next((job for job in self._jobs.all() if named_of(job) == (name, number)), None)

    def remove(self, job: Object) -> None:
        self._jobs.api.remove("jobs", object_name(job))

    def _new(self, job: Job, number: int) -> Submission:
        at = self._workplace
        image = at.settings.image_digest
        if image is None:
            raise OSError("TUNESTACK_IMAGE_DIGEST does not say which image the job is to have")
        worktree = at.worktree_for(job.name)
        with checking_out:
            at.git.check_out(job.commit, worktree)
        # Read anew, since another `pulumi up` may have changed it.
        template = Template.read(self._template)
        named = Named(self._jobs.queue, job.name, number)
        environment = environment_for(job, at.output_of(job.name)) | {"TUNESTACK_IMAGE_DIGEST": image}
        return Submission(template.job(named, job, worktree, environment, image), job.commit, worktree, made=False)

    def _execution(
        self, job: Job, prepare: Callable[[], Submission], log: LogFile, wake: Callable[[], None]
    ) -> JobExecution:
        return JobExecution(
            job, prepare, self._jobs, self._workplace.git, self._workplace.output_of(job.name), log, wake
        )


@dataclass(frozen=True)
class LeftJob:
    """The job of an attempt that an earlier runner submitted."""

    name: str
    number: int
    cluster: Cluster

    def take_up(self, item: Item, wake: Callable[[], None]) -> JobExecution:
        return self.cluster.take_up(item, self.number, wake)

    def discard(self) -> None:
        found = self.cluster.find(self.name, self.number)
        if found is not None and not has_ended(found):
            self.cluster.remove(found)


def _again(found: Object) -> Submission:
    return Submission(found, commit_of(found), worktree_of(found), made=True)
