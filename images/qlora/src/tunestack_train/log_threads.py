"""Logs written by threads of their own, so that a slow or dead one neither slows nor ends a run."""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tunestack_train.logs import JsonLines, Metrics, MetricsLog, TensorBoard, WeightsAndBiases, wandb_mode
from tunestack_train.notify import Word
from tunestack_train.secret_files import read_secret
from tunestack_train.settings import RunConfig
from tunestack_train.status import now

METRICS: Final = "metrics.jsonl"

_MOST_WAITING: Final = 10_000


class NoLog:
    """Takes everything and keeps nothing."""

    def log(self, metrics: Metrics, step: int) -> None: ...

    def close(self) -> None: ...


class InBackground:
    """A log that is opened, written and closed by a thread. Its errors become one note each time it starts to fail.

    What does not fit into the queue any more is counted and dropped: a run goes on for days while a server is away.
    """

    def __init__(
        self, name: str, open_log: Callable[[], MetricsLog], say: Callable[[str], None], *, local: bool = True
    ) -> None:
        """`name` is for people, `say` takes what they should know; checkpoints wait for `local` logs."""
        self.local = local
        self._name = name
        self._say = say
        self._waiting: queue.Queue[tuple[Metrics, int] | Word | threading.Event | None] = queue.Queue(_MOST_WAITING)
        self._lost = 0
        self._failing = False
        self._thread = threading.Thread(target=self._work, args=(open_log,), name=f"log {name}", daemon=True)
        self._thread.start()

    def log(self, metrics: Metrics, step: int) -> None:
        """Returns at once."""
        try:
            self._waiting.put_nowait((dict(metrics), step))
        except queue.Full:
            self._lost += 1

    def tell(self, word: Word) -> None:
        """Word for people, where the log can send such."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(word)

    def flush(self, seconds: float) -> bool:
        """Waits until all that was given has been written; False when that took longer than `seconds`."""
        written = threading.Event()
        try:
            self._waiting.put(written, timeout=seconds)
        except queue.Full:
            return False
        return written.wait(seconds)

    def end(self) -> None:
        """Asks the thread to write what is waiting and to close the log; `join` waits for that."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            self._lost += self._waiting.qsize()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._say(f"note: {self._name} did not take the last {self._waiting.qsize()} entries in time")
        if self._lost:
            self._say(f"note: {self._name} was too slow for {self._lost} entries, which it lacks")

    def _work(self, open_log: Callable[[], MetricsLog]) -> None:
        log = self._open(open_log)
        while (given := self._waiting.get()) is not None:
            if isinstance(given, threading.Event):
                given.set()
            elif isinstance(given, Word):
                if isinstance(log, WeightsAndBiases):
                    log.tell(given)
            else:
                self._attempt(log, given)
        try:
            log.close()
        except Exception as error:  # whatever is wrong with a log, the run has ended well
            self._say(f"note: {self._name} could not be closed: {error}")

    def _open(self, open_log: Callable[[], MetricsLog]) -> MetricsLog:
        try:
            return open_log()
        except Exception as error:  # whatever is wrong with a log, the run goes on without it
            self._say(f"note: {self._name} gets nothing of this run: {error}")
            return NoLog()

    def _attempt(self, log: MetricsLog, given: tuple[Metrics, int]) -> None:
        try:
            log.log(*given)
            self._failing = False
        except Exception as error:
            if not self._failing:
                self._say(f"note: {self._name} cannot be written from step {given[1]} on: {error}")
            self._failing = True


class AllLogs:
    """Hands everything to each log. With none it does nothing."""

    def __init__(self, logs: Sequence[InBackground]) -> None:
        self._logs = tuple(logs)

    def log(self, metrics: Metrics, step: int) -> None:
        for log in self._logs:
            log.log(metrics, step)

    def tell(self, word: Word) -> None:
        """To each log that can send word to people."""
        for log in self._logs:
            log.tell(word)

    def flush(self, seconds: float) -> None:
        """Waits until everything is written to the disk, at most so long in all. No server is waited for."""
        until = time.monotonic() + seconds
        for log in self._logs:
            if not log.local:
                continue
            log.flush(max(0.0, until - time.monotonic()))

    def close(self, seconds: float) -> None:
        """Writes what is waiting and closes all logs, at most so long in all."""
        until = time.monotonic() + seconds
        for log in self._logs:
            log.end()
        for log in self._logs:
            log.join(max(0.0, until - time.monotonic()))


def open_logs(config: RunConfig, folder: Path, resume_step: int, say: Callable[[str], None]) -> AllLogs:
    """All logs of a run in its folder. What was logged after `resume_step` is taken back, as those steps come again.

    Raises SettingsError for W&B without a key.
    """
    key = read_secret("wandb-api-key", "WANDB_API_KEY")
    mode = wandb_mode(config, key, os.environ)
    logs = [
        InBackground(METRICS, lambda: JsonLines(folder / METRICS, resume_step, now), say),
        InBackground("TensorBoard", lambda: TensorBoard(folder / "tensorboard", resume_step), say),
    ]
    if mode != "disabled":
        sent = key if mode == "online" else None
        logs.append(InBackground("Weights & Biases", lambda: WeightsAndBiases(config, folder, sent), say, local=False))
    return AllLogs(logs)
