"""The real monitor as a process of its own, against the fake driver: what a person, Prometheus and TensorBoard see."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from fake_nvml import L4, RTX_4090, FakeNvml, build

SOURCE = Path(__file__).resolve().parents[1] / "src"
T = TypeVar("T")
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(library: Path, tmp_path: Path) -> FakeNvml:
    folder = tmp_path / "driver"
    folder.mkdir()
    (folder / library.name).symlink_to(library)
    fake = FakeNvml(folder)
    fake.play(RTX_4090, L4)
    return fake


class Monitor:
    """A running monitor and what it says."""

    def __init__(self, logs: Path, environment: dict[str, str], *arguments: str) -> None:
        self.logs = logs
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tunestack_train.monitor", *arguments],
            env={**base_environment(logs), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))

    @property
    def url(self) -> str:
        line = wait_for(lambda: next((line for line in self.said if "serving http" in line), None))
        return line.split("serving ")[1].removesuffix("/metrics")

    def metrics(self) -> str:
        with OPENER.open(f"{self.url}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def records(self) -> list[dict[str, object]]:
        file = self.logs / "gpu_metrics.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Seconds until the process was gone."""
        begin = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(10)
        self._reader.join(5)
        return time.monotonic() - begin


def base_environment(logs: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "TUNESTACK_LOGS_DIR": str(logs), "NODE_NAME": "desk"}


def wait_for(question: Callable[[], T | None], seconds: float = 10.0) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.03)
    raise AssertionError(f"not within {seconds} s")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Monitor]]:
    running: list[Monitor] = []

    def begin(environment: dict[str, str], *arguments: str, interval: str = "100ms") -> Monitor:
        running.append(Monitor(tmp_path / "logs", environment, "--interval", interval, "--port", "0", *arguments))
        return running[-1]

    yield begin
    for monitor in running:
        if monitor.process.poll() is None:
            monitor.process.kill()
            monitor.process.wait()


def once(logs: Path, environment: dict[str, str]) -> tuple[list[dict[str, object]], str]:
    done = subprocess.run(
        [sys.executable, "-m", "tunestack_train.monitor", "--once"],
        env={**base_environment(logs), **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_one_sample_tells_everything_that_nvml_gives(nvml: FakeNvml, tmp_path: Path) -> None:
    (first, second), said = once(tmp_path / "logs", nvml.environment)
    assert said == ""
    timestamp = first.pop("timestamp")
    assert isinstance(timestamp, str)
    assert timestamp.endswith("Z")
    assert first == {
        "schema": 1, "kind": "gpu", "state": "ok", "error": None, "index": 0, "uuid": "GPU-4090",
        "name": "NVIDIA GeForce RTX 4090", "pci_bus_id": "00000000:01:00.0", "driver_version": "560.35.03",
        "utilization_percent": 87, "memory_utilization_percent": 41, "encoder_utilization_percent": 5,
        "decoder_utilization_percent": 6, "memory_used_bytes": 8 << 30, "memory_free_bytes": (16 << 30) - (341 << 20),
        "memory_reserved_bytes": 341 << 20, "memory_total_bytes": 24 << 30, "temperature_celsius": 66,
        "power_watts": 301.5, "power_limit_watts": 450.0, "energy_millijoules": 123456789, "clock_sm_mhz": 2520,
        "clock_memory_mhz": 10501, "ecc_corrected_errors": 8, "ecc_uncorrected_errors": 9, "pcie_replays": 7,
        "throttled": False, "throttle_reasons": [], "xid_new": [], "xid_last": 0,
        "processes": [{"pid": 4242, "name": "python-4242", "memory_bytes": 7 << 30, "kind": "compute"}],
    }  # fmt: skip
    # The second one is held back, and gives little: what it does not give is null, not zero.
    assert (second["throttled"], second["throttle_reasons"]) == (True, ["sw_power_cap", "hw_thermal_slowdown"])
    assert (second["power_watts"], second["ecc_corrected_errors"], second["processes"]) == (None, None, [])
    assert second["memory_free_bytes"] == 21 << 30
    lines = (tmp_path / "logs" / "gpu_metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["uuid"] for line in lines] == ["GPU-4090", "GPU-l4"]


def test_a_gpu_that_falls_off_the_bus_is_reported_and_comes_back(nvml: FakeNvml, start: Callable[..., Monitor]) -> None:
    monitor = start(nvml.environment, "--rescan", "300ms")
    wait_for(monitor.records)
    nvml.play(RTX_4090, {**L4, "xid": "79"})
    wait_for(lambda: any(record["xid_new"] == [79] for record in monitor.records()))
    nvml.play(RTX_4090, {**L4, "error": "15"})
    lost = wait_for(lambda: next((record for record in monitor.records() if record["state"] == "lost"), None))
    assert (lost["uuid"], lost["name"], lost["error"]) == ("GPU-l4", "NVIDIA L4", "GPU is lost")
    assert (lost["utilization_percent"], lost["memory_used_bytes"], lost["xid_last"]) == (None, None, 79)
    # Long enough for NVML to be opened afresh with the GPU still away.
    time.sleep(0.7)
    page = monitor.metrics()
    assert 'tunestack_gpu_up{gpu="1",UUID="GPU-l4"' in page
    values = {family.name: {s.labels.get("UUID"): s.value for s in family.samples} for family in parse(page)}
    assert values["tunestack_gpu_up"] == {"GPU-4090": 1.0, "GPU-l4": 0.0}
    assert values["DCGM_FI_DEV_GPU_UTIL"] == {"GPU-4090": 87.0}
    assert values["DCGM_FI_DEV_XID_ERRORS"]["GPU-l4"] == 79.0
    newest = monitor.records()[-2:]
    assert [(record["uuid"], record["state"]) for record in newest] == [("GPU-4090", "ok"), ("GPU-l4", "lost")]
    nvml.play(RTX_4090, L4)
    wait_for(lambda: monitor.records()[-1]["state"] == "ok")
    assert monitor.stop() < 2
    about_it = [line for line in monitor.said if "GPU-l4" in line]
    assert about_it == [
        "gpu-monitor: GPU 1 (NVIDIA L4, GPU-l4) reported XID error 79",
        "gpu-monitor: GPU 1 (NVIDIA L4, GPU-l4) is lost: GPU is lost",
        "gpu-monitor: GPU 1 (NVIDIA L4, GPU-l4) answers again",
    ]


def test_a_gpu_that_nvml_no_longer_lists_stays_reported(nvml: FakeNvml, start: Callable[..., Monitor]) -> None:
    monitor = start(nvml.environment, "--rescan", "100ms")
    wait_for(monitor.records)
    nvml.play(RTX_4090, {**L4, "error": "15"}, count=1)
    missing = "NVML no longer lists this GPU"
    gone = wait_for(lambda: next((record for record in monitor.records() if record["error"] == missing), None))
    assert (gone["index"], gone["uuid"], gone["state"]) == (1, "GPU-l4", "lost")


def test_an_unexpected_failure_is_told_and_the_rest_still_read(nvml: FakeNvml, tmp_path: Path) -> None:
    nvml.play({**RTX_4090, "temp": "!999"})
    (sample,), said = once(tmp_path / "logs", nvml.environment)
    assert (sample["state"], sample["error"]) == ("unreadable", "Unknown Error")
    assert (sample["temperature_celsius"], sample["utilization_percent"]) == (None, 87)
    assert said == "gpu-monitor: GPU 0 (NVIDIA GeForce RTX 4090, GPU-4090) is unreadable: Unknown Error\n"


def test_a_gpu_that_is_lost_from_the_start_is_reported(nvml: FakeNvml, start: Callable[..., Monitor]) -> None:
    nvml.play({**RTX_4090, "error": "15"}, L4)
    monitor = start(nvml.environment, "--rescan", "200ms")
    wait_for(monitor.records)
    lost, well = monitor.records()[:2]
    assert (lost["index"], lost["uuid"], lost["state"], lost["error"]) == (0, "unknown-0", "lost", "GPU is lost")
    assert (well["index"], well["uuid"], well["state"]) == (1, "GPU-l4", "ok")
    nvml.play(RTX_4090, L4)
    wait_for(lambda: any(record["uuid"] == "GPU-4090" for record in monitor.records()))
    assert [record["uuid"] for record in monitor.records()[-2:]] == ["GPU-4090", "GPU-l4"]


def test_prometheus_reads_the_page_under_dcgms_names(nvml: FakeNvml, start: Callable[..., Monitor]) -> None:
    monitor = start(nvml.environment)
    wait_for(monitor.records)
    page = monitor.metrics()
    if promtool := shutil.which("promtool"):
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False
        )
        # promtool also has opinions on names, which are DCGM's here; what cannot be parsed is an error.
        assert "error while linting" not in checked.stderr
    families = {family.name: family for family in parse(page)}
    used = families["DCGM_FI_DEV_FB_USED"]
    assert (used.type, used.documentation) == ("gauge", "Framebuffer memory used (in MiB).")
    assert [sample.value for sample in used.samples] == [8192.0, 1024.0]
    assert used.samples[0].labels == {
        "gpu": "0", "UUID": "GPU-4090", "pci_bus_id": "00000000:01:00.0", "device": "nvidia0",
        "modelName": "NVIDIA GeForce RTX 4090", "Hostname": "desk", "DCGM_FI_DRIVER_VERSION": "560.35.03",
    }  # fmt: skip
    assert {name for name in families if name.startswith("DCGM_")} == {
        "DCGM_FI_DEV_" + name
        for name in [
            "SM_CLOCK", "MEM_CLOCK", "CLOCK_THROTTLE_REASONS", "GPU_TEMP", "POWER_USAGE", "POWER_MGMT_LIMIT",
            "TOTAL_ENERGY_CONSUMPTION", "PCIE_REPLAY_COUNTER", "GPU_UTIL", "MEM_COPY_UTIL", "ENC_UTIL", "DEC_UTIL",
            "FB_FREE", "FB_USED", "FB_RESERVED", "FB_TOTAL", "ECC_SBE_VOL_TOTAL", "ECC_DBE_VOL_TOTAL", "XID_ERRORS",
        ]
    }  # fmt: skip
    assert "\n# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter\nDCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{" in page
    with OPENER.open(f"{monitor.url}/healthz", timeout=5) as answer:
        assert json.load(answer)["gpus"] == 2


def parse(page: str) -> list[Metric]:
    return list(text_string_to_metric_families(page))


def test_tensorboard_reads_the_scalars(nvml: FakeNvml, tmp_path: Path) -> None:
    loader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_file_loader", reason="needs tensorboard (the lock file `dev`)"
    )
    once(tmp_path / "logs", nvml.environment)
    (file,) = (tmp_path / "logs" / "gpu-monitor").iterdir()
    events = list(loader.EventFileLoader(str(file)).Load())
    values = {value.tag: value.tensor.float_val[0] for event in events for value in event.summary.value}
    assert values["gpu0/utilization_percent"] == 87
    assert values["gpu0/memory_used_gib"] == 8
    assert values["gpu1/temperature_celsius"] == 91
    assert "gpu1/power_watts" not in values
    assert abs(events[-1].wall_time - time.time()) < 60


@pytest.mark.parametrize(
    ("init", "why"),
    [(9, "driver is not loaded"), (18, "driver was updated"), (12, "no NVIDIA driver here")],
)
def test_without_a_usable_driver_it_says_so_once_and_reports_the_machine(
    nvml: FakeNvml, start: Callable[..., Monitor], init: int, why: str
) -> None:
    nvml.play(RTX_4090, init=init)
    monitor = start(nvml.environment, "--rescan", "150ms")
    sample = wait_for(lambda: next((record for record in monitor.records() if record["cpu_percent"] is not None), None))
    assert sample["kind"] == "cpu"
    assert why in str(sample["reason"])
    assert isinstance(sample["memory_total_bytes"], int)
    assert "tunestack_cpu_utilization_ratio" in monitor.metrics()
    time.sleep(0.5)
    assert sum("no GPU" in line for line in monitor.said) == 1
    # The driver is loaded later: no restart is needed.
    nvml.play(RTX_4090)
    wait_for(lambda: monitor.records()[-1]["kind"] == "gpu")
    wait_for(lambda: monitor.said[-1] == "gpu-monitor: GPUs are there now: reporting them")


def test_without_any_nvidia_library(tmp_path: Path) -> None:
    (sample,), said = once(tmp_path / "logs", {"LD_LIBRARY_PATH": str(tmp_path)})
    assert (sample["kind"], sample["cores"]) == ("cpu", os.cpu_count())
    assert said.count("\n") == 1
    assert "no NVIDIA driver here, or the container was started without a GPU" in said


def test_a_driver_that_hangs_holds_up_neither_metrics_nor_the_end(
    nvml: FakeNvml, start: Callable[..., Monitor]
) -> None:
    monitor = start(nvml.environment)
    wait_for(monitor.records)
    nvml.play({**RTX_4090, "hang": "1"}, L4)
    wait_for(lambda: stale(monitor))
    assert "DCGM_FI_DEV_GPU_UTIL" in monitor.metrics()
    assert monitor.stop() < 2
    assert monitor.process.returncode == 0
    assert monitor.said[-1] == "gpu-monitor: stopped while NVML did not answer"


def stale(monitor: Monitor) -> bool:
    try:
        OPENER.open(f"{monitor.url}/healthz", timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code == 503
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(nvml: FakeNvml, start: Callable[..., Monitor], number: int) -> None:
    monitor = start(nvml.environment, interval="1h")
    wait_for(monitor.records)
    assert monitor.stop(number) < 2
    assert monitor.process.returncode == 0
    assert monitor.said[-1] == "gpu-monitor: stopped"


def test_a_full_disk_drops_samples_and_nothing_else(nvml: FakeNvml, start: Callable[..., Monitor]) -> None:
    monitor = start(nvml.environment)
    wait_for(monitor.records)
    file = monitor.logs / "gpu_metrics.jsonl"
    # No file may grow beyond this: the next line fits in part only, as on a disk that is just full.
    resource.prlimit(monitor.process.pid, resource.RLIMIT_FSIZE, (file.stat().st_size + 700, resource.RLIM_INFINITY))
    wait_for(lambda: any("samples are dropped" in line for line in monitor.said))
    time.sleep(0.5)
    full = file.read_bytes()
    assert full.endswith(b"}\n")
    assert all(record["schema"] == 1 for record in monitor.records())
    assert sum("samples are dropped" in line for line in monitor.said) == 1
    with OPENER.open(f"{monitor.url}/healthz", timeout=5) as answer:
        assert json.load(answer)["dropped_samples"] > 2
    resource.prlimit(monitor.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_for(lambda: file.stat().st_size > len(full))
    assert file.read_bytes().startswith(full)
    wait_for(lambda: any("samples are written again" in line for line in monitor.said))


def test_after_a_kill_the_torn_line_is_repaired(nvml: FakeNvml, start: Callable[..., Monitor]) -> None:
    killed = start(nvml.environment)
    wait_for(killed.records)
    killed.stop(signal.SIGKILL)
    file = killed.logs / "gpu_metrics.jsonl"
    whole = file.read_bytes()
    with file.open("ab") as torn:
        torn.write(whole.splitlines(keepends=True)[-1][:100])
    after = start(nvml.environment)
    wait_for(lambda: file.stat().st_size > len(whole) + 100)
    assert file.read_bytes().startswith(whole + b'{"schema":1')
    assert after.records()
    assert any("removed an unfinished last line of 100 bytes" in line for line in after.said)


def test_a_port_that_is_taken_is_named(nvml: FakeNvml, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        monitor = Monitor(tmp_path / "logs", nvml.environment, "--port", port)
        assert monitor.process.wait(10) == 2
        monitor.stop(0) if monitor.process.poll() is None else monitor._reader.join(5)
    assert monitor.said == [
        f"gpu-monitor: port {port} on 127.0.0.1 cannot be used: Address already in use; "
        "stop what listens there, or choose another with --port"
    ]


def test_a_logs_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    monitor = Monitor(tmp_path / "logs", {}, "--once")
    assert monitor.process.wait(10) == 2
    monitor._reader.join(5)
    assert len(monitor.said) == 1
    assert f"{tmp_path / 'logs'} cannot be used for samples" in monitor.said[0]


def test_a_training_process_that_can_be_seen_is_measured(tmp_path: Path) -> None:
    script = tmp_path / "tunestack-train"
    script.write_text("import time\nprint(flush=True)\ntime.sleep(60)\n")
    with subprocess.Popen([sys.executable, script, "run", "--name", "x"], stdout=subprocess.PIPE) as training:
        try:
            assert training.stdout is not None
            training.stdout.readline()
            (sample,), _ = once(tmp_path / "logs", {"LD_LIBRARY_PATH": str(tmp_path)})
        finally:
            training.kill()
    assert isinstance(sample["processes"], list)
    # Other tests may train meanwhile.
    (memory,) = (process["memory_bytes"] for process in sample["processes"] if process["pid"] == training.pid)
    assert memory > 1 << 20
