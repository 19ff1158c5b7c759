"""Command line of gpu-monitor."""

import argparse
import errno
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from tunestack_train.monitor.journal import Journal
from tunestack_train.monitor.prometheus import BackupTimes
from tunestack_train.monitor.sampler import Devices, Notices, Sampler, read_backup_times
from tunestack_train.monitor.samples import to_record
from tunestack_train.monitor.scalars import ScalarLog
from tunestack_train.monitor.server import MetricsServer, Sources
from tunestack_train.units import parse_duration, parse_size, show_duration

# Long enough for a sample under way, short enough for «stopped within two seconds».
_STOP_SECONDS = 1.2
_PERCENTAGE_SECONDS = 0.25


def main(arguments: list[str]) -> int:
    """Exit codes: 0 stopped on request or `--once` done, 2 settings (arguments, port taken, logs not writable)."""
    options = _parser().parse_args(arguments)
    logs = Path(os.environ.get("TUNESTACK_LOGS_DIR", "/logs"))
    journal = Journal(logs / "gpu_metrics.jsonl", options.rotate, options.keep)
    notices = Notices(_say)
    sampler = Sampler(
        Devices(options.rescan, notices), journal, ScalarLog(logs / "gpu-monitor"), options.interval, notices
    )
    try:
        logs.mkdir(parents=True, exist_ok=True)
        if not os.access(logs, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        cut = journal.repair()
    except OSError as error:
        _say(
            f"{logs} cannot be used for samples: {error.strerror}. "
            f"Set TUNESTACK_LOGS_DIR to a folder that user {os.getuid()} can write"
        )
        return 2
    if cut:
        _say(f"removed an unfinished last line of {cut} bytes from {logs / 'gpu_metrics.jsonl'}")
    if options.once:
        return _once(sampler)
    return _serve(sampler, options.address, options.port, logs / "backup_status.json")


def _once(sampler: Sampler) -> int:
    sampler.devices.read(time.time())  # percentages are over a time, which begins here
    time.sleep(_PERCENTAGE_SECONDS)
    sampler.sample_once()
    for sample in sampler.snapshot.samples if sampler.snapshot else ():
        sys.stdout.write(json.dumps(to_record(sample)) + "\n")
    return 0


def _serve(sampler: Sampler, address: str, port: int, backup_status: Path) -> int:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    hostname = os.environ.get("NODE_NAME") or socket.gethostname()

    def backup() -> BackupTimes:
        return read_backup_times(backup_status)

    try:
        server = MetricsServer(address, port, Sources(lambda: sampler.snapshot, backup, hostname))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        remedy = "stop what listens there, or choose another with --port" if taken else "check --address and --port"
        _say(f"port {port} on {address} cannot be used: {error.strerror}; {remedy}")
        return 2
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()
    _say(f"serving http://{address}:{server.server_port}/metrics")
    sampler.start()
    _watch(sampler, stopping)
    sampler.stop()
    sampler.join(_STOP_SECONDS)
    if sampler.is_alive():
        # The driver hangs. Leaving the interpreter in the usual way could wait for it.
        _say("stopped while NVML did not answer")
        sys.stderr.flush()
        os._exit(0)
    server.server_close()
    _say("stopped")
    return 0


def _watch(sampler: Sampler, stopping: threading.Event) -> None:
    """Waits for the request to stop, and says so when no sample has come for long."""
    notices = Notices(_say)
    while not stopping.wait(1.0):
        snapshot = sampler.snapshot
        age = time.time() - (snapshot.taken_at if snapshot else sampler.started_at)
        patience = max(30.0, 5 * (snapshot.interval if snapshot else 0))
        silent = f"no sample for over {show_duration(patience)}: NVML does not answer" if age > patience else ""
        notices.state("silence", silent, "samples come again")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tunestack_train.monitor",
        description="Writes what the GPUs do to $TUNESTACK_LOGS_DIR/gpu_metrics.jsonl (default /logs), to gpu-monitor/ "
        "beside it for TensorBoard, and to Prometheus. Without a GPU it reports CPU and memory.",
    )
    parser.add_argument("--interval", type=_duration, default=5.0, help="time between samples (default 5s)")
    parser.add_argument("--port", type=int, default=9400, help="port of /metrics and /healthz (default 9400)")
    parser.add_argument(
        "--address", default="127.0.0.1", help="address to listen on (default 127.0.0.1; in a container 0.0.0.0)"
    )
    parser.add_argument("--once", action="store_true", help="take one sample, print it and end")
    parser.add_argument(
        "--rotate", type=_size, default=64 << 20, help="size at which the file is rotated (default 64MiB)"
    )
    parser.add_argument("--keep", type=int, default=4, help="rotated files to keep (default 4)")
    parser.add_argument(
        "--rescan", type=_duration, default=60.0, help="how often missing GPUs are looked for again (default 60s)"
    )
    return parser


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _say(text: str) -> None:
    sys.stderr.write(f"gpu-monitor: {text}\n")
    sys.stderr.flush()
