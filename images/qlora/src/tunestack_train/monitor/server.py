"""`/metrics` for Prometheus and `/healthz` for whoever asks whether samples still come."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tunestack_train.monitor.prometheus import CONTENT_TYPE, BackupTimes, Snapshot, render
from tunestack_train.monitor.samples import GpuSample

# Samples this many intervals old are too old; a very short interval still leaves a busy machine some seconds.
STALE_AFTER_INTERVALS = 3
_STALE_AT_LEAST = 3.0


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a page's content comes from at the moment that it is asked for."""

    snapshot: Callable[[], Snapshot | None]
    backup: Callable[[], BackupTimes]
    hostname: str


class MetricsServer(ThreadingHTTPServer):
    """Serves from its own threads, so a driver that hangs doesn't silence it. Raises OSError if the port is taken."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: str, port: int, sources: Sources) -> None:
        super().__init__((address, port), _Handler)
        self.sources = sources


def health(snapshot: Snapshot | None, now: float) -> tuple[HTTPStatus, dict[str, str | float | int | None]]:
    """Status and body of `/healthz`."""
    if snapshot is None:
        return HTTPStatus.SERVICE_UNAVAILABLE, {"status": "no sample yet", "newest_sample_age_seconds": None}
    age = round(now - snapshot.taken_at, 1)
    fresh = age < max(STALE_AFTER_INTERVALS * snapshot.interval, _STALE_AT_LEAST)
    gpus = [sample for sample in snapshot.samples if isinstance(sample, GpuSample)]
    return (HTTPStatus.OK if fresh else HTTPStatus.SERVICE_UNAVAILABLE), {
        "status": "ok" if fresh else "the newest sample is too old",
        "newest_sample_age_seconds": age,
        "kind": "gpu" if gpus else "cpu",
        "gpus": len(gpus),
        "gpus_lost": sum(gpu.state == "lost" for gpu in gpus),
        "dropped_samples": snapshot.dropped,
    }


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = 10
    server_version = "tunestack-gpu-monitor"
    sys_version = ""

    def do_GET(self) -> None:
        sources = self.server.sources
        path = self.path.partition("?")[0]
        if path == "/metrics":
            page = render(sources.snapshot(), sources.backup(), sources.hostname)
            self._answer(HTTPStatus.OK, CONTENT_TYPE, page)
        elif path == "/healthz":
            status, body = health(sources.snapshot(), time.time())
            self._answer(status, "application/json", json.dumps(body) + "\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "gpu-monitor: see /metrics and /healthz\n")

    def _answer(self, status: HTTPStatus, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """A line for each scrape would bury what matters."""
