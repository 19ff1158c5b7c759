"""The curves that stand beside the loss in TensorBoard."""

import time
from contextlib import suppress
from pathlib import Path

from tunestack_train.events import EventWriter
from tunestack_train.monitor.appending import size_of
from tunestack_train.monitor.samples import CpuSample, Sample

_GIB = 1 << 30
_FILES = "events.out.tfevents.*"


def scalars_of(sample: Sample) -> dict[str, float]:
    """What of a sample is drawn: tags such as `gpu0/utilization_percent`. Unknown values are left out."""
    if isinstance(sample, CpuSample):
        drawn: dict[str, float | None] = {
            "cpu/utilization_percent": sample.cpu_percent,
            "cpu/memory_used_gib": _gib(sample.memory_used_bytes),
        }
        if sample.processes:
            drawn["training/cpu_percent"] = sum(process.cpu_percent or 0.0 for process in sample.processes)
            drawn["training/memory_gib"] = _gib(sum(process.memory_bytes for process in sample.processes))
    else:
        readings, gpu = sample.readings, f"gpu{sample.identity.index}"
        drawn = {
            f"{gpu}/utilization_percent": readings.utilization_percent,
            f"{gpu}/memory_used_gib": _gib(readings.memory_used_bytes),
            f"{gpu}/temperature_celsius": readings.temperature_celsius,
            f"{gpu}/power_watts": readings.power_watts,
            f"{gpu}/clock_sm_mhz": readings.clock_sm_mhz,
        }
    return {tag: float(value) for tag, value in drawn.items() if value is not None}


def _gib(count: int | None) -> float | None:
    return None if count is None else count / _GIB


class ScalarLog:
    """Writes into `folder`, a new file every `max_bytes`; the oldest files beyond `total_bytes` are removed.

    The step is the time in whole seconds, so it grows across restarts; on TensorBoard's axis «wall» the curves stand
    beside the loss of any run. A point is written at most every `spacing` seconds.
    """

    def __init__(
        self, folder: Path, spacing: float = 14.0, max_bytes: int = 32 << 20, total_bytes: int = 128 << 20
    ) -> None:
        self._folder = folder
        self._spacing = spacing
        self._max_bytes = max_bytes
        self._total_bytes = total_bytes
        self._writer: EventWriter | None = None
        self._last = 0.0
        self._resume_at = 0.0

    def write(self, timestamp: float, samples: list[Sample]) -> None:
        """Writes the samples' curves if a point is due. After a failed write (OSError) it rests for a minute."""
        if not self._last <= timestamp < self._last + self._spacing and time.monotonic() >= self._resume_at:
            self._last = timestamp
            try:
                self._write(timestamp, samples)
            except OSError:
                self.close()
                self._resume_at = time.monotonic() + 60
                raise

    def close(self) -> None:
        """Ends the file. What a full disk keeps from being written is lost."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
        self._writer = None

    def _write(self, timestamp: float, samples: list[Sample]) -> None:
        newest = max(self._folder.glob(_FILES), default=None)
        if self._writer is None or newest is None or size_of(newest) > self._max_bytes:
            self.close()
            self._drop_oldest()
            self._writer = EventWriter(self._folder)
        for sample in samples:
            for tag, value in scalars_of(sample).items():
                self._writer.scalar(tag, value, int(timestamp), timestamp)
        self._writer.flush()

    def _drop_oldest(self) -> None:
        # The names begin with the time, so their order is that of their age. Room is left for the file to come.
        kept = self._max_bytes
        for file in sorted(self._folder.glob(_FILES), reverse=True):
            kept += size_of(file)
            if kept > self._total_bytes:
                file.unlink(missing_ok=True)
