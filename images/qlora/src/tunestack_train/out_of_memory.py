"""When memory runs out: what was full, and which settings take less of it."""

import contextlib
from collections.abc import Iterator

from tunestack_train.errors import OutOfMemoryError
from tunestack_train.settings import RunConfig


@contextlib.contextmanager
def out_of_memory_named(config: RunConfig) -> Iterator[None]:
    """Raises OutOfMemoryError, which names the settings to change, in place of what PyTorch says of full memory."""
    try:
        yield
    except Exception as error:
        import torch

        cpu = isinstance(error, MemoryError) or "can't allocate memory" in str(error)
        if not (cpu or isinstance(error, torch.OutOfMemoryError)):
            raise
        raise OutOfMemoryError(
            f"{'the memory of this machine' if cpu else 'the memory of the GPU'} is full: {error}".splitlines()[0],
            _less_memory(config),
        ) from error


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
