"""One sample of a GPU, or of the machine where there is no GPU, and its line in `gpu_metrics.jsonl`.

A value that the hardware or the driver does not give is None, and null in the file; nothing is made up.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

SCHEMA = 1

# Bits of NVML's clock event reasons (nvml.h, nvmlClocksEventReason*); their DCGM names in lower case.
_CLOCK_EVENT_REASONS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}
# An idle GPU, or one whose clocks somebody set, is not held back by power or heat.
_NOT_THROTTLING = {"gpu_idle", "applications_clocks_setting", "display_clock_setting"}


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process with memory on a GPU. In a container `pid` is the host's number, and the name is often hidden."""

    pid: int
    name: str | None
    memory_bytes: int | None
    kind: Literal["compute", "graphics"]


@dataclass(frozen=True, slots=True)
class GpuIdentity:
    """Who a GPU is. It outlives the GPU's answers, so that a lost one can still be named."""

    index: int
    uuid: str
    name: str
    pci_bus_id: str | None
    driver_version: str | None


@dataclass(frozen=True, slots=True)
class GpuReadings:
    """What NVML said at one moment; the units are in the names."""

    utilization_percent: int | None = None
    memory_utilization_percent: int | None = None
    encoder_utilization_percent: int | None = None
    decoder_utilization_percent: int | None = None
    memory_used_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: int | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    energy_millijoules: int | None = None
    clock_sm_mhz: int | None = None
    clock_memory_mhz: int | None = None
    throttle_mask: int | None = None
    ecc_corrected_errors: int | None = None
    ecc_uncorrected_errors: int | None = None
    pcie_replays: int | None = None
    processes: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True, slots=True)
class GpuSample:
    """`state` is `lost` for a GPU that has fallen off the bus, and `unreadable` where NVML failed in another way."""

    timestamp: float
    identity: GpuIdentity
    state: Literal["ok", "lost", "unreadable"]
    error: str | None
    readings: GpuReadings
    xid_new: tuple[int, ...]
    xid_last: int | None


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """A training process that can be seen from here."""

    pid: int
    name: str
    cpu_percent: float | None
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class CpuSample:
    """The machine without a GPU. `cgroup_*` is the limit that this container itself was given, if any."""

    timestamp: float
    reason: str
    name: str | None
    cores: int
    cpu_percent: float | None
    load_average: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    cgroup_memory_used_bytes: int | None
    cgroup_memory_limit_bytes: int | None
    cgroup_cpu_limit: float | None
    processes: tuple[ProcessSample, ...]


Sample = GpuSample | CpuSample
JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]


def throttle_reasons(mask: int | None) -> list[str]:
    """Names of the bits that are set in NVML's mask; an unknown bit is shown as a number."""
    if not mask:
        return []
    known = [name for bit, name in _CLOCK_EVENT_REASONS.items() if mask & bit]
    rest = mask & ~sum(_CLOCK_EVENT_REASONS)
    return [*known, f"unknown_{rest:#x}"] if rest else known


def is_throttled(mask: int | None) -> bool | None:
    """Whether power, heat or a fault holds the clocks down; None where NVML does not tell."""
    if mask is None:
        return None
    return any(reason not in _NOT_THROTTLING for reason in throttle_reasons(mask))


def iso_time(timestamp: float) -> str:
    """UTC with milliseconds: `2026-11-23T09:30:00.125Z`."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_record(sample: Sample) -> dict[str, JsonValue]:
    """The flat object that becomes one line of `gpu_metrics.jsonl`."""
    record: dict[str, JsonValue] = {"schema": SCHEMA, "timestamp": iso_time(sample.timestamp)}
    if isinstance(sample, CpuSample):
        fields = asdict(sample)
        del fields["timestamp"]
        return {**record, "kind": "cpu", **fields, "processes": [asdict(process) for process in sample.processes]}
    readings = asdict(sample.readings)
    mask = readings.pop("throttle_mask")
    return {
        **record,
        "kind": "gpu",
        "state": sample.state,
        "error": sample.error,
        **asdict(sample.identity),
        **readings,
        "throttled": is_throttled(mask),
        "throttle_reasons": list(throttle_reasons(mask)),
        "xid_new": list(sample.xid_new),
        "xid_last": sample.xid_last,
        "processes": [asdict(process) for process in sample.readings.processes],
    }
