"""Whether a service does its work, for health checks: `python -m tunestack_train.health SERVICE`.

Each check asks the service itself, not whether a process exists. It prints one line why, and ends with 0 or 1.
"""

import argparse
import http.client
import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tunestack_train.units import show_duration

_TIMEOUT_SECONDS = 4.0
_MOST_BYTES = 4 << 20
# How old status.json of a run may be. Training writes it every 5 s; a slow disk or a paused machine gets some patience.
_RUN_PATIENCE_SECONDS = {"preparing": 1800.0, "training": 60.0, "saving": 600.0}
_WORKING = {"snapshotting", "checking", "drill"}
_DONE = {"completed", "stopped"}
_STALE_AFTER_INTERVALS = 3
_STALE_AT_LEAST_SECONDS = 3.0


class UnhealthyError(Exception):
    """The one line why a service is not well."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where to look. `now` is in seconds since 1970."""

    logs: Path
    secrets: Path
    run: str | None
    port: int
    now: float


@dataclass(frozen=True, slots=True)
class Service:
    """Its port, and its check, which returns the line for a healthy one and else raises UnhealthyError."""

    port: int
    check: Callable[[Surroundings], str]


def check_jupyter(where: Surroundings) -> str:
    """It answers, refuses whoever has no token, and lets in whoever has it."""
    _json(where.port, "/api")
    without, _ = _get(where.port, "/api/contents")
    if without not in {302, 401, 403}:
        raise UnhealthyError(f"Jupyter answered {without} to a request without a token: it must refuse")
    file = where.secrets / "jupyter-token"
    try:
        token = file.read_text().strip()
    except OSError as error:
        raise UnhealthyError(f"the token file {file} cannot be read: {error.strerror}") from None
    with_token, _ = _get(where.port, "/api/contents", {"Authorization": f"token {token}"})
    if with_token != 200:
        raise UnhealthyError(f"Jupyter answered {with_token} to a request with the token of {file}")
    return "Jupyter answers, and only to those who have the token"


def check_tensorboard(where: Surroundings) -> str:
    """It answers with the runs that it knows."""
    runs = _json(where.port, "/data/runs")
    if not isinstance(runs, list):
        raise UnhealthyError(f"port {where.port} is not TensorBoard: /data/runs is no list")
    return f"TensorBoard answers, with {len(runs)} runs"


def check_gpu_monitor(where: Surroundings) -> str:
    """`/metrics` answers, and its newest sample is younger than three intervals."""
    status, body = _get(where.port, "/metrics")
    if status != 200:
        raise UnhealthyError(f"gpu-monitor answered {status} to /metrics")
    page = body.decode(errors="replace")
    taken = _metric(page, "tunestack_monitor_last_sample_timestamp_seconds")
    interval = _metric(page, "tunestack_monitor_interval_seconds")
    if taken is None or interval is None:
        raise UnhealthyError("gpu-monitor has taken no sample yet")
    age = where.now - taken
    if age >= max(_STALE_AFTER_INTERVALS * interval, _STALE_AT_LEAST_SECONDS):
        raise UnhealthyError(f"the newest sample of gpu-monitor is {show_duration(age)} old")
    dropped = _metric(page, "tunestack_monitor_dropped_samples_total") or 0
    lost = f"; {dropped:.0f} samples could not be written" if dropped else ""
    return f"gpu-monitor answers, its newest sample is {show_duration(max(age, 0))} old{lost}"


def check_training_backup(where: Surroundings) -> str:
    """The last good snapshot is younger than two intervals, or there is a good reason why not; no drill failed."""
    file = where.logs / "backup_status.json"
    status = _status(file)
    drill = status.get("last_drill")
    if isinstance(drill, dict) and not drill.get("ok"):
        raise UnhealthyError(f"the last drill failed: {drill.get('error')}")
    interval = status.get("interval_seconds")
    if not isinstance(interval, int | float):
        raise UnhealthyError(f"{file} does not say how often snapshots are due: training-backup has not started")
    error = status.get("error")
    trouble = f": {error.get('message')}" if isinstance(error, dict) else ""
    success = _age(where.now, status.get("last_success"))
    if success is not None and success < 2 * interval:
        since = f"; since then{trouble}" if trouble else ""
        return f"the last good snapshot is {show_duration(max(success, 0))} old{since}"
    none = "no good snapshot yet" if success is None else f"no good snapshot for {show_duration(success)}"
    if trouble:
        raise UnhealthyError(none + trouble)
    state = str(status.get("state"))
    if state in {"starting", "waiting", *_WORKING}:
        doing = {"waiting": "there is nothing to back up yet", "starting": "it is starting"}
        _require_pulse(where.now, status, state, 2 * interval)
        return doing.get(state, "a snapshot is being taken")
    raise UnhealthyError(f"{none}, and its state is {state}")


def check_training(where: Surroundings) -> str:
    """The run's status file is fresh while the run is at work; a finished run is well."""
    if where.run is None:
        raise UnhealthyError("TUNESTACK_RUN is not set: there is no run to look at")
    file = where.logs / where.run / "status.json"
    status = _status(file)
    state = str(status.get("state"))
    step = f"step {status.get('step')} of {status.get('max_steps')}"
    if state in _DONE:
        return f"run {where.run} is {state}"
    if state == "failed":
        error = status.get("error")
        raise UnhealthyError(
            f"run {where.run} failed: {error.get('message') if isinstance(error, dict) else 'no reason given'}"
        )
    patience = _RUN_PATIENCE_SECONDS.get(state)
    age = _age(where.now, status.get("updated_at"))
    if patience is None or age is None:
        raise UnhealthyError(f"{file} is not a run's status: state {state!r}, updated at {status.get('updated_at')!r}")
    if age > patience:
        raise UnhealthyError(f"run {where.run} is {state} and has told nothing for {show_duration(age)} ({step})")
    return f"run {where.run} is {state}, {step}"


SERVICES: Mapping[str, Service] = {
    "jupyter": Service(8888, check_jupyter),
    "tensorboard": Service(6006, check_tensorboard),
    "gpu-monitor": Service(9400, check_gpu_monitor),
    "training-backup": Service(0, check_training_backup),
    "training": Service(0, check_training),
}


def main(arguments: list[str]) -> int:
    """Exit codes: 0 healthy, 1 not, 2 wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m tunestack_train.health", description="Health of one service.")
    parser.add_argument("service", choices=sorted(SERVICES))
    parser.add_argument("--port", type=int, help="port on 127.0.0.1, if not the usual one")
    options = parser.parse_args(arguments)
    service = SERVICES[options.service]
    where = Surroundings(
        logs=Path(os.environ.get("TUNESTACK_LOGS_DIR", "/logs")),
        secrets=Path(os.environ.get("TUNESTACK_SECRETS_DIR", "/run/secrets")),
        run=os.environ.get("TUNESTACK_RUN") or None,
        port=options.port or service.port,
        now=time.time(),
    )
    try:
        line, code = service.check(where), 0
    except UnhealthyError as error:
        line, code = str(error), 1
    sys.stdout.write(f"{options.service}: {line}\n")
    return code


def _get(port: int, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body, straight from 127.0.0.1: a proxy of the environment must not stand between. Redirects stay."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise UnhealthyError(f"nothing answers on port {port}{path}: {error or type(error).__name__}") from None
    finally:
        connection.close()


def _json(port: int, path: str) -> object:
    status, body = _get(port, path)
    if status != 200:
        raise UnhealthyError(f"port {port}{path} answered {status}")
    try:
        return json.loads(body)
    except ValueError:
        raise UnhealthyError(f"port {port}{path} did not answer with JSON") from None


def _metric(page: str, name: str) -> float | None:
    match = re.search(rf"^{name} (\S+)$", page, re.MULTILINE)
    return float(match[1]) if match else None


def _status(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        raise UnhealthyError(f"{file} is not there yet") from None
    except (OSError, ValueError) as error:
        raise UnhealthyError(f"{file} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UnhealthyError(f"{file} is no status: it holds no object")
    return content


def _age(now: float, moment: object) -> float | None:
    try:
        return now - datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else None
    except ValueError:
        return None


def _require_pulse(now: float, status: Mapping[str, object], state: str, patience: float) -> None:
    """While it waits it gives a sign of life every half minute; a long snapshot gets two intervals."""
    age = _age(now, status.get("updated_at"))
    if age is None or age > (max(patience, 120.0) if state in _WORKING else 120.0):
        raise UnhealthyError(f"it is {state} and has given no sign of life for {show_duration(age or 0)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
