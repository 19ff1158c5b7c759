"""Takes samples at a steady pace and hands them to the file, TensorBoard and whoever serves them."""

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tunestack_train.monitor.host import HostReader
from tunestack_train.monitor.journal import Journal
from tunestack_train.monitor.nvml import GpuReader, NvmlUnavailableError, load_api
from tunestack_train.monitor.prometheus import BackupTimes, Snapshot
from tunestack_train.monitor.samples import GpuSample, Sample, to_record
from tunestack_train.monitor.scalars import ScalarLog

Say = Callable[[str], None]


class Notices:
    """Says something when it changes, and not again at every sample."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said: dict[str, str] = {}

    def event(self, text: str) -> None:
        """Something that happened once."""
        self._say(text)

    def state(self, topic: str, text: str, recovered: str | None = None) -> None:
        """The present state of `topic`; the empty text is the normal one, on return to which `recovered` is said."""
        before = self._said.get(topic, "")
        if text == before:
            return
        self._said[topic] = text
        if text:
            self._say(text)
        elif recovered:
            self._say(recovered)


class Devices:
    """The GPUs, or the machine where there are none. Missing GPUs are looked for every `rescan` seconds."""

    def __init__(self, rescan: float, notices: Notices) -> None:
        self._rescan = rescan
        self._notices = notices
        self._host = HostReader()
        self._gpus: GpuReader | None = None
        self._reason = ""
        self._next_look = 0.0

    def read(self, timestamp: float) -> list[Sample]:
        if self._gpus is None and time.monotonic() >= self._next_look:
            self._look_for_gpus()
        if self._gpus is None:
            return [self._host.read(timestamp, self._reason)]
        samples = self._gpus.read(timestamp)
        for sample in samples:
            self._report(sample)
        if all(sample.state == "ok" for sample in samples):
            self._next_look = time.monotonic() + self._rescan
        elif time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + self._rescan
            self._gpus.reopen()
        return list(samples)

    def close(self) -> None:
        if self._gpus is not None:
            self._gpus.close()

    def _look_for_gpus(self) -> None:
        self._next_look = time.monotonic() + self._rescan
        try:
            gpus = GpuReader(load_api())
            gpus.open()
        except NvmlUnavailableError as error:
            self._reason = str(error)
            self._notices.state("nvml", f"no GPU ({error}): reporting CPU and memory instead")
        else:
            self._gpus = gpus
            self._notices.state("nvml", "", "GPUs are there now: reporting them")

    def _report(self, sample: GpuSample) -> None:
        gpu = sample.identity
        name = f"GPU {gpu.index} ({gpu.name}, {gpu.uuid})"
        trouble = "" if sample.state == "ok" else f"{name} is {sample.state}: {sample.error}"
        self._notices.state(f"gpu {gpu.uuid}", trouble, f"{name} answers again")
        if sample.xid_new:
            codes = ", ".join(str(code) for code in sample.xid_new)
            self._notices.event(f"{name} reported XID error {codes}")


class Sampler(threading.Thread):
    """A thread of its own: a driver that hangs when a GPU fails must not hold up signals or `/metrics`."""

    def __init__(
        self, devices: Devices, journal: Journal, scalars: ScalarLog, interval: float, notices: Notices
    ) -> None:
        super().__init__(name="sampler", daemon=True)
        self.devices = devices
        self._journal = journal
        self._scalars = scalars
        self._interval = interval
        self._notices = notices
        self._stopping = threading.Event()
        self._dropped = 0
        self.started_at = time.time()
        self.snapshot: Snapshot | None = None

    def run(self) -> None:
        due = time.monotonic()
        while not self._stopping.is_set():
            try:
                self.sample_once()
                self._notices.state("sampling", "", "sampling works again")
            except Exception as error:  # whatever a driver makes of it, the next sample may work
                self._notices.state("sampling", f"a sample failed: {type(error).__name__}: {error}")
            due = max(due + self._interval, time.monotonic())
            self._stopping.wait(due - time.monotonic())
        self.devices.close()
        self._scalars.close()

    def stop(self) -> None:
        self._stopping.set()

    def sample_once(self) -> list[Sample]:
        """Takes and stores one sample of each device."""
        now = time.time()
        samples = self.devices.read(now)
        if self._store(now, samples):
            self._notices.state("disk", "", f"samples are written again; {self._dropped} were lost")
        self.snapshot = Snapshot(tuple(samples), now, self._interval, self._dropped)
        return samples

    def _store(self, now: float, samples: list[Sample]) -> bool:
        try:
            self._journal.append(to_record(sample) for sample in samples)
            self._scalars.write(now, samples)
        except OSError as error:
            self._dropped += len(samples)
            self._notices.state("disk", f"samples are dropped, the logs volume cannot be written: {error.strerror}")
            return False
        return True


def read_backup_times(status_file: Path) -> BackupTimes:
    """Reads the backup's status file; one that is absent or unreadable gives no times."""
    try:
        status = json.loads(status_file.read_text())
        drill = status["last_drill"]
        return BackupTimes(_seconds(status["last_success"]), _seconds(drill["at"]) if drill and drill["ok"] else None)
    except (OSError, ValueError, KeyError, TypeError):
        return BackupTimes(None, None)


def _seconds(iso: str | None) -> float | None:
    return None if iso is None else datetime.fromisoformat(iso).timestamp()
