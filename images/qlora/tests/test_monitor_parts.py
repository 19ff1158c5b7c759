"""The pure parts of gpu-monitor, and the files that it writes."""

import json
import time
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tunestack_train.monitor.host import HostReader, is_training
from tunestack_train.monitor.journal import Journal
from tunestack_train.monitor.prometheus import BackupTimes, Snapshot, render
from tunestack_train.monitor.sampler import read_backup_times
from tunestack_train.monitor.samples import (
    CpuSample,
    GpuIdentity,
    GpuReadings,
    GpuSample,
    is_throttled,
    throttle_reasons,
)
from tunestack_train.monitor.scalars import ScalarLog
from tunestack_train.monitor.server import health
from tunestack_train.units import parse_duration, parse_size, show_duration, show_size

CPU = CpuSample(1000.0, "no GPU", "a CPU", 4, 12.5, 0.5, 1 << 30, 2 << 30, None, None, None, ())
GPU = GpuSample(1000.0, GpuIdentity(0, "GPU-a", "A", None, None), "ok", None, GpuReadings(utilization_percent=5), (), 0)


@pytest.mark.parametrize(
    ("mask", "reasons", "throttled"),
    [
        (None, [], None),
        (0, [], False),
        (0x1, ["gpu_idle"], False),
        (0x102, ["applications_clocks_setting", "display_clock_setting"], False),
        (0x4, ["sw_power_cap"], True),
        (
            0x8 | 0x20 | 0x40 | 0x80,
            ["hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"],
            True,
        ),
        (0x1 | 0x10000, ["gpu_idle", "unknown_0x10000"], True),
    ],
)
def test_throttle_reasons(mask: int | None, reasons: list[str], throttled: bool | None) -> None:
    assert throttle_reasons(mask) == reasons
    assert is_throttled(mask) is throttled


@given(st.text(max_size=20))
def test_any_name_of_a_gpu_survives_the_text_format(name: str) -> None:
    # Prometheus' own parser for Python splits lines at characters which the format does not.
    kept = "".join(character for character in name if character not in "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
    gpu = replace(GPU, identity=replace(GPU.identity, name=kept))
    page = render(Snapshot((gpu,), 1000.0, 5.0, 0), BackupTimes(None, None), "host")
    (family,) = [f for f in text_string_to_metric_families(page) if f.name == "DCGM_FI_DEV_GPU_UTIL"]
    assert (family.samples[0].labels["modelName"], family.samples[0].value) == (kept, 5.0)


def test_backup_times_are_served_even_before_the_first_sample() -> None:
    page = render(None, BackupTimes(1795000000.5, None), "host")
    (family,) = text_string_to_metric_families(page)
    assert (family.name, family.samples[0].value) == ("tunestack_backup_last_success_timestamp_seconds", 1795000000.5)


def test_backup_times_come_from_the_status_file(tmp_path: Path) -> None:
    file = tmp_path / "backup_status.json"
    assert read_backup_times(file) == BackupTimes(None, None)
    file.write_text("{")
    assert read_backup_times(file) == BackupTimes(None, None)
    drill = {"at": "2026-11-23T10:00:00+00:00", "ok": True, "verified_manifests": 2}
    file.write_text(json.dumps({"last_success": "2026-11-23T09:00:00+00:00", "last_drill": drill}))
    assert read_backup_times(file) == BackupTimes(1795424400.0, 1795428000.0)
    file.write_text(json.dumps({"last_success": None, "last_drill": {**drill, "ok": False}}))
    assert read_backup_times(file) == BackupTimes(None, None)


def test_health_depends_on_the_age_of_the_newest_sample() -> None:
    snapshot = Snapshot((GPU, CPU), 1000.0, 5.0, 2)
    assert health(None, 1000.0)[0] is HTTPStatus.SERVICE_UNAVAILABLE
    status, body = health(snapshot, 1014.9)
    assert (status, body["gpus"], body["dropped_samples"]) == (HTTPStatus.OK, 1, 2)
    assert health(snapshot, 1015.1)[0] is HTTPStatus.SERVICE_UNAVAILABLE


def test_rotation_keeps_what_it_is_told_to(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    journal = Journal(file, max_bytes=50, keep=2)
    for number in range(20):
        journal.append([{"number": number}])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["m.jsonl", "m.jsonl.1", "m.jsonl.2"]
    numbers = [
        json.loads(line)["number"] for name in reversed(names) for line in (tmp_path / name).read_text().splitlines()
    ]
    assert numbers == list(range(numbers[0], 20))
    assert len(numbers) == 8
    assert all((tmp_path / name).stat().st_size <= 50 for name in names)


@pytest.mark.parametrize("torn", [b'{"number":', b"x" * 200_000])
def test_repair_takes_the_torn_line_and_no_more(tmp_path: Path, torn: bytes) -> None:
    file = tmp_path / "m.jsonl"
    journal = Journal(file, 1 << 30, 1)
    assert journal.repair() == 0
    journal.append([{"number": 1}, {"number": 2}])
    whole = file.read_bytes()
    assert journal.repair() == 0
    file.write_bytes(whole + torn)
    assert journal.repair() == len(torn)
    assert file.read_bytes() == whole
    file.write_bytes(torn)
    assert journal.repair() == len(torn)
    assert file.read_bytes() == b""


def test_event_files_are_renewed_and_the_oldest_removed(tmp_path: Path) -> None:
    log = ScalarLog(tmp_path, spacing=1, max_bytes=300, total_bytes=900)
    begin = time.time()
    for second in range(60):
        log.write(begin + second, [CPU])
    log.close()
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert 2 <= len(sizes) <= 3
    assert sum(sizes) <= 1000


def test_points_are_not_written_more_often_than_asked(tmp_path: Path) -> None:
    log = ScalarLog(tmp_path, spacing=10)
    log.write(1000.0, [CPU])
    size = next(tmp_path.iterdir()).stat().st_size
    log.write(1009.0, [CPU])
    assert next(tmp_path.iterdir()).stat().st_size == size
    log.write(1010.0, [CPU])
    assert next(tmp_path.iterdir()).stat().st_size > size


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


PROC = {
    "stat": "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1 1 1\n",
    "meminfo": "MemTotal:        1000 kB\nMemFree:   10 kB\nMemAvailable:    400 kB\nHugePages_Total:       0\n",
    "loadavg": "0.50 0.40 0.30 1/200 999\n",
    "cpuinfo": "processor : 0\nmodel name\t: A CPU\n",
}


def test_the_machine_is_read_from_proc_and_cgroup_v2(tmp_path: Path) -> None:
    proc = write_tree(tmp_path / "proc", PROC)
    limits = {"memory.current": "500\n", "memory.max": "1000\n", "cpu.max": "150000 100000\n"}
    reader = HostReader(proc, write_tree(tmp_path / "cgroup", limits))
    first = reader.read(1.0, "why")
    assert (first.cpu_percent, first.load_average, first.name) == (None, 0.5, "A CPU")
    assert (first.memory_total_bytes, first.memory_used_bytes) == (1000 * 1024, 600 * 1024)
    assert (first.cgroup_memory_used_bytes, first.cgroup_memory_limit_bytes, first.cgroup_cpu_limit) == (500, 1000, 1.5)
    (proc / "stat").write_text("cpu  125 0 100 750 125 0 0 0 0 0\n")
    assert reader.read(2.0, "why").cpu_percent == 25.0


def test_cgroup_v1_and_no_limit(tmp_path: Path) -> None:
    proc = write_tree(tmp_path / "proc", PROC)
    v1 = {
        "memory/memory.usage_in_bytes": "500\n", "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n",
    }  # fmt: skip
    sample = HostReader(proc, write_tree(tmp_path / "v1", v1)).read(1.0, "")
    assert (sample.cgroup_memory_used_bytes, sample.cgroup_memory_limit_bytes, sample.cgroup_cpu_limit) == (
        500,
        None,
        None,
    )
    write_tree(tmp_path / "v1", {"cpu/cpu.cfs_quota_us": "50000\n"})
    assert HostReader(proc, tmp_path / "v1").read(1.0, "").cgroup_cpu_limit == 0.5
    v2 = write_tree(tmp_path / "v2", {"memory.max": "max\n", "cpu.max": "max 100000\n"})
    sample = HostReader(proc, v2).read(1.0, "")
    assert (sample.cgroup_memory_limit_bytes, sample.cgroup_cpu_limit) == (None, None)


def test_without_proc_nothing_is_made_up(tmp_path: Path) -> None:
    sample = HostReader(tmp_path / "none", tmp_path / "none").read(1.0, "")
    assert (sample.cpu_percent, sample.memory_used_bytes, sample.load_average, sample.processes) == (
        None,
        None,
        None,
        (),
    )


@pytest.mark.parametrize(
    ("command", "training"),
    [
        ("python /opt/tunestack/bin/tunestack-train run --name a", True),
        ("/opt/venv/bin/python -m tunestack_train.cli run", True),
        ("python -u -m tunestack_train run", True),
        ("tunestack-train export", False),
        ("python -m tunestack_train.monitor --once", False),
        ("grep tunestack_train run", False),
        ("vi tunestack-train", False),
        ("", False),
    ],
)
def test_a_training_process_is_known_by_its_command(command: str, training: bool) -> None:
    assert is_training(command.split(" ")) is training


@pytest.mark.parametrize(("text", "seconds"), [("5s", 5), ("1.5h", 5400), ("250ms", 0.25), ("2d", 172800), ("1m", 60)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["5", "0s", "-1s", "s", "5 s", "1w", "", "1e3s"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


def test_sizes() -> None:
    assert [parse_size(text) for text in ("1B", "64MiB", "1.5GiB")] == [1, 64 << 20, 3 << 29]
    with pytest.raises(ValueError, match="is no size"):
        parse_size("5MB")


def test_units_are_shown_shortly() -> None:
    assert [show_duration(seconds) for seconds in (5, 90, 3600, 129600)] == ["5s", "1.5m", "1h", "1.5d"]
    assert [show_size(count) for count in (12, 1536, 5 << 30)] == ["12 B", "1.5 KiB", "5.0 GiB"]
