"""What a person sees of a run: one line that moves on a terminal, one line an interval elsewhere."""

import os
import shutil
import threading
from pathlib import Path
from typing import TextIO

from tunestack_train.status import Status


def describe(status: Status) -> str:
    """`step 12/30  loss 5.1324  1,250 tokens/s  ETA 0:18  2.1 GiB`; what is not known is left out."""
    steps = f"step {status.step}/{status.max_steps}" if status.max_steps else f"step {status.step}"
    parts = [
        steps,
        None if status.loss is None else f"loss {status.loss:.4f}",
        None if status.eval_loss is None else f"eval {status.eval_loss:.4f}",
        None if status.learning_rate is None else f"lr {status.learning_rate:.2e}",
        None if status.tokens_per_second is None else f"{status.tokens_per_second:,.0f} tokens/s",
        None if status.eta_seconds is None else f"ETA {duration(status.eta_seconds)}",
        None if status.gpu_memory_bytes is None else f"{status.gpu_memory_bytes / 2**30:.1f} GiB",
    ]
    return "  ".join(part for part in parts if part is not None)


def duration(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Console:
    """Writes to a stream; whether it moves one line or adds lines depends on whether a person is watching."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._moving = stream.isatty()
        self._open_line = False
        # Logs speak from threads of their own.
        self._speaking = threading.Lock()

    def say(self, text: str) -> None:
        """A line that stays."""
        with self._speaking:
            self._clear()
            print(text, file=self._stream, flush=True)

    def progress(self, status: Status) -> None:
        with self._speaking:
            self._clear()
            if not self._moving:
                print(describe(status), file=self._stream, flush=True)
                return
            # A line that wraps could not be taken back.
            width = shutil.get_terminal_size().columns - 1
            print(describe(status)[:width], end="", file=self._stream, flush=True)
            self._open_line = True

    def _clear(self) -> None:
        if self._open_line:
            print("\r\x1b[2K", end="", file=self._stream)
            self._open_line = False


def silent_console() -> Console:
    """For the processes that another one speaks for."""
    return Console(Path(os.devnull).open("w", encoding="utf-8"))
