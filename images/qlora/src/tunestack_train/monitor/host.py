"""CPU and memory of the machine, of this container's control group, and of a training process that can be seen."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunestack_train.monitor.samples import CpuSample, ProcessSample

# cgroup v1 writes a number near 2^63 where no limit is set.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class _Ticks:
    busy: float
    total: float


class HostReader:
    """Percentages are over the time since the reading before; the first one has none."""

    def __init__(self, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc = proc
        self._cgroup = cgroup
        self._ticks: _Ticks | None = None
        self._process_seconds: dict[int, tuple[float, float]] = {}
        self._name = _processor_name(_read(proc / "cpuinfo"))

    def read(self, timestamp: float, reason: str) -> CpuSample:
        memory = _memory(_read(self._proc / "meminfo"))
        total, available = memory.get("MemTotal"), memory.get("MemAvailable")
        load = _read(self._proc / "loadavg").split()
        return CpuSample(
            timestamp=timestamp,
            reason=reason,
            name=self._name,
            cores=os.cpu_count() or 1,
            cpu_percent=self._cpu_percent(),
            load_average=float(load[0]) if load else None,
            memory_used_bytes=total - available if total is not None and available is not None else None,
            memory_total_bytes=total,
            cgroup_memory_used_bytes=_number(self._first("memory.current", "memory/memory.usage_in_bytes")),
            cgroup_memory_limit_bytes=_number(self._first("memory.max", "memory/memory.limit_in_bytes")),
            cgroup_cpu_limit=self._cpu_limit(),
            processes=tuple(self._training_processes()),
        )

    def _first(self, *names: str) -> str:
        return next((text for name in names if (text := _read(self._cgroup / name))), "")

    def _cpu_percent(self) -> float | None:
        fields = _read(self._proc / "stat").split("\n", 1)[0].split()[1:9]
        if len(fields) < 5:
            return None
        ticks = [float(field) for field in fields]
        now = _Ticks(sum(ticks) - ticks[3] - ticks[4], sum(ticks))
        before, self._ticks = self._ticks, now
        if before is None or now.total <= before.total:
            return None
        return round(max(0.0, 100 * (now.busy - before.busy) / (now.total - before.total)), 1)

    def _cpu_limit(self) -> float | None:
        quota = _read(self._cgroup / "cpu.max").split() or [
            _read(self._cgroup / "cpu/cpu.cfs_quota_us").strip(),
            _read(self._cgroup / "cpu/cpu.cfs_period_us").strip(),
        ]
        if len(quota) != 2 or not all(part.isdigit() for part in quota):
            return None  # "max", or -1: no limit
        return int(quota[0]) / int(quota[1])

    def _training_processes(self) -> Iterator[ProcessSample]:
        seen: dict[int, tuple[float, float]] = {}
        for folder in sorted(self._proc.glob("[0-9]*"), key=lambda path: int(path.name)):
            arguments = _read(folder / "cmdline").rstrip("\0").split("\0")
            # What follows the name, which may hold spaces, begins with field 3; utime is 14, stime 15, rss 24.
            fields = _read(folder / "stat").rpartition(")")[2].split()
            if not is_training(arguments) or len(fields) < 22:
                continue
            pid = int(folder.name)
            seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            now = time.monotonic()
            before = self._process_seconds.get(pid)
            percent = round(100 * (seconds - before[1]) / (now - before[0]), 1) if before and now > before[0] else None
            seen[pid] = (now, seconds)
            yield ProcessSample(pid, "tunestack-train", percent, int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
        self._process_seconds = seen


def is_training(arguments: list[str]) -> bool:
    """Whether a command line is `tunestack-train run …`, by its script or by `python -m`."""
    for position, argument in enumerate(arguments[:6]):
        by_script = Path(argument).name == "tunestack-train"
        by_module = argument in {"tunestack_train", "tunestack_train.cli"} and arguments[position - 1] == "-m"
        if by_script or by_module:
            return "run" in arguments[position + 1 : position + 2]
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""  # another system, a hidden file, or a process that has just ended


def _memory(meminfo: str) -> dict[str, int]:
    lines = (line.split() for line in meminfo.splitlines())
    return {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in lines if len(fields) == 3 and fields[2] == "kB"}


def _number(text: str) -> int | None:
    stripped = text.strip()
    return int(stripped) if stripped.isdigit() and int(stripped) < _NO_LIMIT else None


def _processor_name(cpuinfo: str) -> str | None:
    names = (line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    return next(names, None)
