"""When memory runs out: what was full, which settings take less, and how a step is done again in parts."""

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from tunestack_train.errors import OutOfMemoryError
from tunestack_train.gpu import is_out_of_memory
from tunestack_train.settings import RunConfig

if TYPE_CHECKING:
    import torch

Batch = Mapping[str, Any]
"""Inputs of a forward pass: tensors whose first dimension counts the sequences."""

# How PyTorch's allocator of main memory begins its complaints.
_OF_THE_MACHINE: Final = ("can't allocate memory", "not enough memory")


@contextlib.contextmanager
def out_of_memory_named(config: RunConfig) -> Iterator[None]:
    """Raises OutOfMemoryError, which names the settings to change, in place of what PyTorch says of full memory."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        cpu = isinstance(error, MemoryError) or any(text in str(error) for text in _OF_THE_MACHINE)
        raise OutOfMemoryError(
            f"{'the memory of this machine' if cpu else 'the memory of the GPU'} is full: {error}".splitlines()[0],
            _less_memory(config),
        ) from error


class SmallerParts:
    """Does forward and backward passes, in smaller parts once memory has run out; a step sees the same examples.

    When a pass runs out of memory, the gradients of the step that it belongs to are dropped and the step's passes are
    done again with half as many sequences at a time: the step is not lost, nor is any example seen twice. The loss of a
    pass must be a sum over tokens divided by the number of tokens in the whole step, so that parts add up to it.
    """

    def __init__(self, size: int, on_halved: Callable[[int, int], None]) -> None:
        """`size`: most sequences in a pass to begin with. `on_halved` is told the step and the new size."""
        self.size = size
        self._on_halved = on_halved
        self._step = -1
        self._done: list[Batch] = []

    def run(
        self, step: int, batch: Batch, one_pass: Callable[[Batch], "torch.Tensor"], reset: Callable[[], None]
    ) -> "torch.Tensor":
        """The loss of `batch`, a scalar tensor. `step` counts optimiser steps; `reset` drops the step's gradients.

        Raises what `one_pass` raised when memory is too small for a single sequence.
        """
        if step != self._step:
            self._step, self._done = step, []
        again: tuple[Batch, ...] = ()
        while True:
            error = self._try([*again, batch], one_pass)
            if not isinstance(error, Exception):
                self._done.append(batch)
                return error
            sequences = _sequences(batch)
            if sequences is None or min(self.size, sequences) <= 1:
                raise error
            self.size = (min(self.size, sequences) + 1) // 2
            del error  # and what it keeps alive
            reset()
            _free_memory()
            self._on_halved(step, self.size)
            again = tuple(self._done)

    def _try(self, batches: list[Batch], one_pass: Callable[[Batch], "torch.Tensor"]) -> "torch.Tensor | Exception":
        """The loss of the last batch; or the error, outside of its handler, which would keep its tensors alive."""
        try:
            losses = [sum((one_pass(part) for part in _parts(batch, self.size)), start=0.0) for batch in batches]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return error.with_traceback(None)
        return losses[-1]  # type: ignore[return-value] # at least one part: a batch has a sequence


def _sequences(batch: Batch) -> int | None:
    """Sequences in a batch; None when it cannot be taken apart by them."""
    import torch

    sizes = {value.shape[0] if torch.is_tensor(value) and value.dim() else None for value in batch.values()}
    return sizes.pop() if len(sizes) == 1 else None


def _parts(batch: Batch, size: int) -> list[Batch]:
    sequences = _sequences(batch)
    if sequences is None or sequences <= size:
        return [batch]
    return [{key: value[start : start + size] for key, value in batch.items()} for start in range(0, sequences, size)]


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _less_memory(config: RunConfig) -> str:
    size, accumulation = config.per_device_train_batch_size, config.gradient_accumulation_steps
    advice: list[str] = []
    if size > 1:
        advice.append(
            f"--set per_device_train_batch_size={size // 2} --set gradient_accumulation_steps={accumulation * 2} "
            "(the same batch in smaller parts)"
        )
    if not config.gradient_checkpointing:
        advice.append("--set gradient_checkpointing=true")
    if not config.load_in_4bit:
        advice.append("--set load_in_4bit=true")
    advice.append(f"--set max_length={config.max_length // 2}")
    return "under another name, give in this order what it takes: " + "; ".join(advice)
