"""The processes of one run: one alone, or several under torchrun or `accelerate launch`, one for each GPU.

Each knows its number (rank) from the environment, as torchrun sets it. The first alone writes status, logs, console and
checkpoints. What they agree on goes over gloo, so that no GPU waits for it.
"""

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from tunestack_train.errors import TunestackError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

T = TypeVar("T")

# The others wait while the first one downloads a model or tokenises.
_LONGEST_WAIT: Final = timedelta(hours=24)
_LOOK_SECONDS: Final = 0.02
# How gloo and NCCL say that a process at the other end is gone.
_PEER_GONE: Final = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "Socket closed",
    "remote process exited",
    "NCCL communicator was aborted",
    "failed to connect",
    "Timed out waiting",
)


class ProcessLostError(TunestackError):
    """Another process of the run has ended, so that this one cannot go on."""

    exit_code = 8


@dataclass(frozen=True)
class Processes:
    """`rank` counts from 0 over all machines, `local_rank` on this one."""

    rank: int = 0
    local_rank: int = 0
    count: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Processes":
        """What the launcher says; without one, this process alone."""
        rank, local_rank, count = (int(environment.get(name, 0)) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
        return cls(rank, local_rank, max(count, 1))

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.count > 1

    def connect(self) -> None:
        """Finds the other processes. All have to call it before anything else here."""
        if not self.several:
            return
        import torch

        distributed = _distributed()
        if distributed.is_initialized():
            return
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        launched, _, _ = next(distributed.rendezvous("env://"))
        store = distributed.PrefixStore(self._meet(launched), launched)
        distributed.init_process_group(backend, store=store, rank=self.rank, world_size=self.count)

    def _meet(self, store: Any) -> str:  # a torch.distributed.Store, whose types lack half of it
        """A name that the processes of this start share, and no earlier start of theirs had.

        torchrun keeps its store when it starts processes again (seen with PyTorch 2.7), so what was written there may
        be a dead process's address, and connecting would wait for it. The first process answers each that calls, until
        all have heard it.
        """
        if not self.first:
            call = uuid.uuid4().hex
            store.set(f"call/{self.rank}", call)
            name: str = store.get(f"answer/{call}").decode()
            store.set(f"{name}/{self.rank}", "here")
            return name
        name = uuid.uuid4().hex
        answered: set[str] = set()
        missing = set(range(1, self.count))
        deadline = time.monotonic() + store.timeout.total_seconds()
        while missing:
            for rank in sorted(missing):
                if store.check([f"call/{rank}"]):
                    call = store.get(f"call/{rank}").decode()
                    if call not in answered:
                        store.set(f"answer/{call}", name)
                        answered.add(call)
                if store.check([f"{name}/{rank}"]):
                    missing.remove(rank)
            if missing and time.monotonic() > deadline:
                ranks = ", ".join(map(str, sorted(missing)))
                raise ProcessLostError(
                    f"{len(missing)} of {self.count} processes did not come (rank {ranks})",
                    "see what they and the launcher said, then start the same command again",
                )
            time.sleep(_LOOK_SECONDS)
        return name

    def by_first(self, work: Callable[[], T]) -> T:
        """Has the first process do `work`; all return its result, or raise its TunestackError."""
        if not self.several:
            return work()
        outcome: list[Any] = [None]
        failure: TunestackError | None = None
        if self.first:
            try:
                outcome = [(work(), None)]
            except TunestackError as raised:
                failure = raised
                outcome = [(None, (type(raised), raised.message, raised.remedy))]
        _distributed().broadcast_object_list(outcome, src=0, group=_control_group())
        if failure is not None:
            raise failure
        result, told = outcome[0]
        if told is not None:
            kind, message, remedy = told
            error: TunestackError = kind(message, remedy)
            error.told_by_first = True
            raise error
        return result  # type: ignore[no-any-return] # what `work` returned, sent as it is

    def largest(self, value: int) -> int:
        """The largest of the values that the processes give."""
        if not self.several:
            return value
        import torch

        tensor = torch.tensor(value)
        _distributed().all_reduce(tensor, op=_distributed().ReduceOp.MAX, group=_control_group())
        return int(tensor.item())

    def gather(self, value: T) -> list[T]:
        """The values of all processes by rank in the first one; an empty list in the others."""
        if not self.several:
            return [value]
        gathered: list[T | None] | None = [None] * self.count if self.first else None
        _distributed().gather_object(value, gathered, dst=0, group=_control_group())
        return [item for item in gathered if item is not None] if gathered is not None else []

    def wait(self) -> None:
        """Returns once all processes have come here."""
        if self.several:
            _distributed().barrier(group=_control_group())

    def end(self, code: int) -> NoReturn:
        """Ends this process with its exit code.

        Among several, without Python's own finalisation: gloo's threads may just be letting go of the last tensor, for
        which they need the interpreter, and the process would abort after all its work (seen with PyTorch 2.7, which
        also hangs now and then when asked to destroy the group before).
        """
        if self.several:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):  # nobody reads it any more
                    stream.flush()
            os._exit(code)
        sys.exit(code)

    @contextlib.contextmanager
    def loss_named(self) -> Iterator[None]:
        """Raises ProcessLostError for what the libraries raise when another process is gone."""
        try:
            yield
        except RuntimeError as error:
            if not (self.several and any(text in str(error) for text in _PEER_GONE)):
                raise
            raise ProcessLostError(
                f"process {self.rank} of {self.count} lost another process of this run, which was killed or failed",
                "see what that one and the launcher said, then start the same command again: the run goes on from its "
                "newest complete checkpoint (torchrun does so by itself with --max-restarts)",
            ) from error


_control: list["ProcessGroup"] = []


def _control_group() -> "ProcessGroup":
    """A group of all processes over gloo, made when it is first needed."""
    if not _control:
        _control.append(_distributed().new_group(backend="gloo", timeout=_LONGEST_WAIT))
    return _control[0]


def _distributed() -> Any:
    import torch

    return torch.distributed
