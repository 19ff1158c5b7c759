"""What a runner asks of the place where experiments run: this machine's processes, or the jobs of a cluster."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from tunestack_train.experiments.board import Item
from tunestack_train.experiments.devices import Gpu
from tunestack_train.experiments.execution import Ending, Job
from tunestack_train.experiments.log_file import LogFile


class Work(Protocol):
    """An experiment at work. Once `ending` is there, `wake` of whoever asked for it has been called."""

    job: Job
    output: Path
    log: LogFile
    ending: Ending | None
    stopped_for: str | None

    @property
    def host(self) -> str:
        """The machine that it ran on, as far as it is known."""

    def start(self) -> None: ...

    def stop(self, reason: str) -> None:
        """Ends it. `reason`: cancelled, returned (to be run again) or lost."""

    def join(self, seconds: float | None = None) -> None: ...


class Room(Protocol):
    """What can be given to experiments, and who has it."""

    def could_take(self, gpus: int) -> bool:
        """Whether there would be enough, were nothing running."""

    def takes(self, gpus: int) -> bool:
        """Whether there is enough now."""

    def take(self, gpus: int) -> tuple[Gpu, ...]: ...

    def give_back(self, gpus: Iterable[Gpu]) -> None: ...


class Left(Protocol):
    """Work that an earlier start of this runner began and that went on without it: an attempt of an experiment."""

    @property
    def name(self) -> str: ...

    @property
    def number(self) -> int: ...

    def take_up(self, item: Item, wake: Callable[[], None]) -> Work:
        """The same work again, to be started: it goes on, and its end is waited for."""

    def discard(self) -> None:
        """Ends it, unless it has ended."""


class Executor(Protocol):
    """Makes work of claimed experiments."""

    @property
    def room(self) -> Room: ...

    @property
    def outlives(self) -> bool:
        """Whether the work goes on while there is no runner."""

    def execute(self, item: Item, number: int, commit: str, gpus: tuple[Gpu, ...], wake: Callable[[], None]) -> Work:
        """The work of an attempt, not yet started."""

    def left(self) -> Sequence[Left]: ...
