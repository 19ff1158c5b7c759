"""`status.json`: how a run stands, for whoever looks from outside. Written anew, whole, every few seconds."""

import contextlib
import json
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tunestack_train.manifest import checkpoint_step

_SECONDS_BETWEEN: Final = 4.0


@dataclass(frozen=True)
class SavedCheckpoint:
    path: str
    step: int
    saved_at: str


@dataclass(frozen=True)
class Failure:
    message: str
    remedy: str


@dataclass(frozen=True)
class Status:
    """What is not known is None. Memory in bytes, times as ISO 8601 in UTC, speed in tokens that the model reads."""

    run: str
    preset: str
    model: str
    started_at: str
    schema: int = 1
    state: str = "preparing"
    step: int = 0
    max_steps: int | None = None
    loss: float | None = None
    first_loss: float | None = None
    eval_loss: float | None = None
    best_eval_loss: float | None = None
    best_step: int | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    eta_seconds: float | None = None
    gpu_memory_bytes: int | None = None
    device: str | None = None
    per_device_train_batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    predicted_memory_bytes: int | None = None
    predicted_seconds: float | None = None
    updated_at: str | None = None
    last_checkpoint: SavedCheckpoint | None = None
    adapter: str | None = None
    error: Failure | None = None
    exit_code: int | None = None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def saved(checkpoint: Path) -> SavedCheckpoint:
    """A checkpoint as the status names it."""
    written = datetime.fromtimestamp(checkpoint.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
    return SavedCheckpoint(str(checkpoint), checkpoint_step(checkpoint) or 0, written)


class StatusFile:
    """Keeps the file fresh from a thread, so that it tells a long step from a dead process."""

    def __init__(self, path: Path, status: Status) -> None:
        self._path = path
        self._status = status
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, name="status", daemon=True)

    @property
    def status(self) -> Status:
        return self._status

    def start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.update()
        self._thread.start()

    def update(self, **changes: object) -> None:
        """Changes the named fields and writes the file."""
        with self._lock:
            self._status = replace(self._status, **changes)  # type: ignore[arg-type]
            self._write()

    def end(self, **changes: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self.update(**changes)

    def _refresh(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN):
            self.update()

    def _write(self) -> None:
        self._status = replace(self._status, updated_at=now())
        aside = self._path.with_name(f".{self._path.name}.partial")
        try:
            aside.write_text(json.dumps(asdict(self._status), indent=1) + "\n", encoding="utf-8")
            aside.replace(self._path)
        except OSError:
            # A full disk must not end a run for the sake of a report on it; the checkpoint writer says so.
            with contextlib.suppress(OSError):
                aside.unlink()


class UnwrittenStatus(StatusFile):
    """What the other processes of a run keep: the first one alone writes the file."""

    def start(self) -> None:
        pass

    def _write(self) -> None:
        pass
