"""Experiments as processes of this machine, which end with the runner."""

import shutil
from collections.abc import Callable, Sequence

from tunestack_train.experiments.board import Item
from tunestack_train.experiments.devices import Gpu, Slots
from tunestack_train.experiments.execution import Execution, Job
from tunestack_train.experiments.jobs import command_of, environment_of
from tunestack_train.experiments.work import Left
from tunestack_train.experiments.workplace import Workplace


class Machine:
    """An executor whose work ends with the runner, so that an earlier one has left none."""

    outlives = False

    def __init__(self, workplace: Workplace, gpus: Sequence[Gpu]) -> None:
        settings = workplace.settings
        self.room = Slots(gpus, settings.cpu_places, gpus_on_cpu=settings.gpus_on_cpu)
        self._workplace = workplace
        for leftover in settings.worktrees.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)

    def execute(
        self, item: Item, number: int, commit: str, gpus: tuple[Gpu, ...], wake: Callable[[], None]
    ) -> Execution:
        at = self._workplace
        log = at.log_of(item.name)
        log.say(at.head(item.name, number, commit))
        job = Job(item.name, command_of(item), commit, item.timeout, gpus, environment_of(item, number))
        worktree = at.worktree_for(item.name)
        return Execution(job, at.git, worktree, at.output_of(item.name), log, at.settings.grace, wake)

    def left(self) -> Sequence[Left]:
        return ()
