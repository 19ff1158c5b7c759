"""Samples in Prometheus' text format, GPUs under the names and labels of NVIDIA's DCGM exporter.

Names, types and help texts' units: dcgm-exporter, etc/default-counters.csv; label order: its GPU metric template.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tunestack_train.monitor.samples import CpuSample, GpuReadings, GpuSample, Sample

_MIB = 1 << 20
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Number = int | float | None
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _GpuMetric:
    name: str
    kind: Literal["gauge", "counter"]
    text: str
    value: Callable[[GpuReadings], Number]


@dataclass(frozen=True, slots=True)
class BackupTimes:
    """From the backup's status file, in seconds since 1970; None while there was none."""

    last_success: float | None
    last_drill: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the monitor knows at one moment."""

    samples: tuple[Sample, ...]
    taken_at: float
    interval: float
    dropped: int


def _mib(count: int | None) -> Number:
    return None if count is None else count // _MIB


_GPU_METRICS = (
    _GpuMetric("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz).", lambda r: r.clock_sm_mhz),
    _GpuMetric("DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock frequency (in MHz).", lambda r: r.clock_memory_mhz),
    _GpuMetric(
        "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
        "gauge",
        "Current clock throttle reasons (bitmask of NVML's clock event reasons).",
        lambda r: r.throttle_mask,
    ),
    _GpuMetric("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C).", lambda r: r.temperature_celsius),
    _GpuMetric("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", lambda r: r.power_watts),
    _GpuMetric(
        "DCGM_FI_DEV_POWER_MGMT_LIMIT", "gauge", "Power management limit (in W).", lambda r: r.power_limit_watts
    ),
    _GpuMetric(
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "counter",
        "Total energy consumption since boot (in mJ).",
        lambda r: r.energy_millijoules,
    ),
    _GpuMetric("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "Total number of PCIe retries.", lambda r: r.pcie_replays),
    _GpuMetric("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", lambda r: r.utilization_percent),
    _GpuMetric(
        "DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "Memory utilization (in %).", lambda r: r.memory_utilization_percent
    ),
    _GpuMetric("DCGM_FI_DEV_ENC_UTIL", "gauge", "Encoder utilization (in %).", lambda r: r.encoder_utilization_percent),
    _GpuMetric("DCGM_FI_DEV_DEC_UTIL", "gauge", "Decoder utilization (in %).", lambda r: r.decoder_utilization_percent),
    _GpuMetric(
        "DCGM_FI_DEV_FB_FREE", "gauge", "Framebuffer memory free (in MiB).", lambda r: _mib(r.memory_free_bytes)
    ),
    _GpuMetric(
        "DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB).", lambda r: _mib(r.memory_used_bytes)
    ),
    _GpuMetric(
        "DCGM_FI_DEV_FB_RESERVED",
        "gauge",
        "Framebuffer memory reserved (in MiB).",
        lambda r: _mib(r.memory_reserved_bytes),
    ),
    _GpuMetric(
        "DCGM_FI_DEV_FB_TOTAL", "gauge", "Framebuffer memory total (in MiB).", lambda r: _mib(r.memory_total_bytes)
    ),
    _GpuMetric(
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL",
        "counter",
        "Total number of single-bit volatile ECC errors.",
        lambda r: r.ecc_corrected_errors,
    ),
    _GpuMetric(
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL",
        "counter",
        "Total number of double-bit volatile ECC errors.",
        lambda r: r.ecc_uncorrected_errors,
    ),
)


def render(snapshot: Snapshot | None, backup: BackupTimes, hostname: str) -> str:
    """The whole page. Before the first sample it holds what is known of the backup."""
    lines: list[str] = []
    if snapshot is not None:
        gpus = [sample for sample in snapshot.samples if isinstance(sample, GpuSample)]
        machines = [sample for sample in snapshot.samples if isinstance(sample, CpuSample)]
        lines += _gpu_lines(gpus, hostname)
        for machine in machines:
            lines += _machine_lines(machine, hostname)
        lines += _own_lines(snapshot)
    lines += _family(
        "tunestack_backup_last_success_timestamp_seconds",
        "gauge",
        "When the newest good snapshot of the backup was taken.",
        [({}, backup.last_success)],
    )
    lines += _family(
        "tunestack_backup_last_drill_timestamp_seconds",
        "gauge",
        "When a snapshot was last restored aside and every manifest verified.",
        [({}, backup.last_drill)],
    )
    return "".join(f"{line}\n" for line in lines)


def _gpu_lines(gpus: list[GpuSample], hostname: str) -> list[str]:
    labelled = [(_gpu_labels(gpu, hostname), gpu) for gpu in gpus]
    lines: list[str] = []
    for metric in _GPU_METRICS:
        # A lost GPU has no readings, and so no value: a zero would look like an idle one.
        values = [(labels, metric.value(gpu.readings)) for labels, gpu in labelled]
        lines += _family(metric.name, metric.kind, metric.text, values)
    lines += _family(
        "DCGM_FI_DEV_XID_ERRORS",
        "gauge",
        "Value of the last XID error encountered.",
        [(labels, gpu.xid_last) for labels, gpu in labelled],
    )
    lines += _family(
        "tunestack_gpu_up",
        "gauge",
        "1 while the GPU answers, 0 once it is lost or cannot be read.",
        [(labels, int(gpu.state == "ok")) for labels, gpu in labelled],
    )
    return lines


def _gpu_labels(gpu: GpuSample, hostname: str) -> Labels:
    identity = gpu.identity
    labels = {"gpu": str(identity.index), "UUID": identity.uuid}
    if identity.pci_bus_id:
        labels["pci_bus_id"] = identity.pci_bus_id
    labels |= {"device": f"nvidia{identity.index}", "modelName": identity.name, "Hostname": hostname}
    if identity.driver_version:
        labels["DCGM_FI_DRIVER_VERSION"] = identity.driver_version
    return labels


def _machine_lines(machine: CpuSample, hostname: str) -> list[str]:
    labels = {"Hostname": hostname}
    fraction = None if machine.cpu_percent is None else round(machine.cpu_percent / 100, 4)
    processes = [({**labels, "pid": str(process.pid)}, process) for process in machine.processes]
    return [
        *_family("tunestack_cpu_cores", "gauge", "Processor cores of the machine.", [(labels, machine.cores)]),
        *_family("tunestack_cpu_utilization_ratio", "gauge", "Share of all cores that is busy.", [(labels, fraction)]),
        *_family("tunestack_memory_used_bytes", "gauge", "Memory in use.", [(labels, machine.memory_used_bytes)]),
        *_family(
            "tunestack_memory_total_bytes", "gauge", "Memory of the machine.", [(labels, machine.memory_total_bytes)]
        ),
        *_family(
            "tunestack_training_cpu_utilization_ratio",
            "gauge",
            "Cores that a training process keeps busy.",
            [(own, None if one.cpu_percent is None else round(one.cpu_percent / 100, 4)) for own, one in processes],
        ),
        *_family(
            "tunestack_training_memory_bytes",
            "gauge",
            "Resident memory of a training process.",
            [(own, one.memory_bytes) for own, one in processes],
        ),
    ]


def _own_lines(snapshot: Snapshot) -> list[str]:
    return [
        *_family(
            "tunestack_monitor_last_sample_timestamp_seconds",
            "gauge",
            "When the newest sample was taken.",
            [({}, round(snapshot.taken_at, 3))],
        ),
        *_family("tunestack_monitor_interval_seconds", "gauge", "Time between samples.", [({}, snapshot.interval)]),
        *_family(
            "tunestack_monitor_dropped_samples_total",
            "counter",
            "Samples that could not be written to the logs volume.",
            [({}, snapshot.dropped)],
        ),
    ]


def _family(name: str, kind: str, text: str, values: Iterable[tuple[Labels, Number]]) -> list[str]:
    known = [f"{name}{_labels(labels)} {value}" for labels, value in values if value is not None]
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *known] if known else []


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
