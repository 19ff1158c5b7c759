"""Health checks against services that are well and services that are not."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tunestack_train.backup.status import iso
from tunestack_train.health import Surroundings, UnhealthyError, check_training, check_training_backup

SOURCE = Path(__file__).resolve().parents[1] / "src"
Answer = tuple[int, str]
Pages = Callable[[str, str], Answer]


@pytest.fixture
def serve() -> Iterator[Callable[[Pages], int]]:
    servers: list[ThreadingHTTPServer] = []

    def begin(pages: Pages) -> int:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, text = pages(self.path, self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Location", "/login")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """Silent."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return server.server_port

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(tmp_path: Path, service: str, port: int = 0, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tunestack_train.health", service, "--port", str(port)],
        env={
            "PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "TUNESTACK_LOGS_DIR": str(tmp_path),
            "TUNESTACK_SECRETS_DIR": str(tmp_path), "http_proxy": "http://127.0.0.1:9", **environment,
        },
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return done.returncode, done.stdout.strip()


def jupyter(path: str, authorization: str, *, refusal: int = 403, token: str = "right") -> Answer:
    if path == "/api":
        return 200, '{"version":"2"}'
    return (200, "{}") if authorization == f"token {token}" else (refusal, "")


@pytest.mark.parametrize(
    ("pages", "code", "line"),
    [
        (jupyter, 0, "answers, and only to those who have the token"),
        (lambda path, auth: jupyter(path, auth, refusal=302), 0, "answers"),
        (lambda path, auth: jupyter(path, auth, refusal=200), 1, "answered 200 to a request without a token"),
        (lambda path, auth: jupyter(path, auth, token="other"), 1, "answered 403 to a request with the token"),
        (lambda path, auth: (200, "<html>"), 1, "did not answer with JSON"),
        (lambda path, auth: (500, ""), 1, "/api answered 500"),
    ],
)
def test_jupyter(serve: Callable[[Pages], int], tmp_path: Path, pages: Pages, code: int, line: str) -> None:
    (tmp_path / "jupyter-token").write_text("right\n")
    answer = ask(tmp_path, "jupyter", serve(pages))
    assert answer[0] == code
    assert line in answer[1]


def test_jupyter_without_a_token_file(serve: Callable[[Pages], int], tmp_path: Path) -> None:
    code, line = ask(tmp_path, "jupyter", serve(jupyter))
    assert (code, line) == (
        1,
        f"jupyter: the token file {tmp_path / 'jupyter-token'} cannot be read: No such file or directory",
    )


def test_nobody_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    assert ask(tmp_path, "tensorboard", port) == (
        1,
        f"tensorboard: nothing answers on port {port}/data/runs: [Errno 111] Connection refused",
    )


@pytest.mark.parametrize(("body", "code"), [('["a", "b"]', 0), ("{}", 1), ("<html>", 1)])
def test_tensorboard(serve: Callable[[Pages], int], tmp_path: Path, body: str, code: int) -> None:
    assert ask(tmp_path, "tensorboard", serve(lambda path, _: (200 if path == "/data/runs" else 404, body)))[0] == code


@pytest.mark.parametrize(
    ("age", "dropped", "code", "line"),
    [(100, 0, 0, "newest sample is 1.7m"), (100, 3, 0, "3 samples could not be written"), (160, 0, 1, "is 2.7m")],
)
def test_gpu_monitor(
    serve: Callable[[Pages], int], tmp_path: Path, age: float, dropped: int, code: int, line: str
) -> None:
    page = (
        f"tunestack_monitor_last_sample_timestamp_seconds {time.time() - age}\n"
        f"tunestack_monitor_interval_seconds 50.0\ntunestack_monitor_dropped_samples_total {dropped}\n"
    )
    answer = ask(tmp_path, "gpu-monitor", serve(lambda *_: (200, page)))
    assert answer[0] == code
    assert line in answer[1]


def test_gpu_monitor_before_its_first_sample(serve: Callable[[Pages], int], tmp_path: Path) -> None:
    assert ask(tmp_path, "gpu-monitor", serve(lambda *_: (200, ""))) == (
        1,
        "gpu-monitor: gpu-monitor has taken no sample yet",
    )


NOW = 1_795_000_000.0
HOUR = 3600.0
GOOD_DRILL = {"at": iso(NOW), "ok": True, "verified_manifests": 1}
BAD_DRILL = {"at": iso(NOW), "ok": False, "error": "a manifest did not hold"}
NETWORK = {"message": "the store cannot be reached", "remedy": "", "exit_code": 7}


@pytest.mark.parametrize(
    ("changes", "line", "well"),
    [
        ({"last_success": iso(NOW - 1.9 * HOUR)}, "the last good snapshot is 1.9h old", True),
        ({"last_success": iso(NOW - HOUR), "error": NETWORK}, "since then: the store cannot be reached", True),
        ({"last_success": iso(NOW - HOUR), "last_drill": GOOD_DRILL}, "1h old", True),
        (
            {"last_success": iso(NOW - HOUR), "last_drill": BAD_DRILL},
            "the last drill failed: a manifest did not",
            False,
        ),
        ({"last_success": iso(NOW - 2.1 * HOUR)}, "no good snapshot for 2.1h, and its state is idle", False),
        ({"last_success": iso(NOW - 3 * HOUR), "error": NETWORK}, "no good snapshot for 3h: the store", False),
        ({"error": NETWORK, "state": "error"}, "no good snapshot yet: the store cannot be reached", False),
        ({"state": "waiting"}, "there is nothing to back up yet", True),
        ({"state": "starting"}, "it is starting", True),
        ({"state": "snapshotting", "last_success": iso(NOW - 50 * HOUR)}, "a snapshot is being taken", True),
        ({"state": "waiting", "updated_at": iso(NOW - 130)}, "has given no sign of life for 2.2m", False),
        ({"state": "snapshotting", "updated_at": iso(NOW - 1.9 * HOUR)}, "a snapshot is being taken", True),
        ({"state": "snapshotting", "updated_at": iso(NOW - 2.1 * HOUR)}, "no sign of life", False),
        ({"interval_seconds": None}, "training-backup has not started", False),
    ],
)
def test_training_backup(tmp_path: Path, changes: dict[str, object], line: str, well: bool) -> None:
    status = {"state": "idle", "interval_seconds": HOUR, "updated_at": iso(NOW), "last_success": None, **changes}
    (tmp_path / "backup_status.json").write_text(json.dumps(status))
    where = Surroundings(tmp_path, tmp_path, None, 0, NOW)
    if well:
        assert line in check_training_backup(where)
    else:
        with pytest.raises(UnhealthyError) as caught:
            check_training_backup(where)
        assert line in str(caught.value)


@pytest.mark.parametrize(
    ("state", "age", "line", "well"),
    [
        ("training", 50, "run a is training, step 3 of 30", True),
        ("training", 70, "has told nothing for 1.2m (step 3 of 30)", False),
        ("saving", 500, "is saving", True),
        ("saving", 700, "has told nothing", False),
        ("preparing", 1700, "is preparing", True),
        ("preparing", 1900, "has told nothing", False),
        ("completed", 99999, "run a is completed", True),
        ("stopped", 99999, "run a is stopped", True),
        ("failed", 1, "run a failed: out of memory", False),
        ("dancing", 1, "is not a run's status", False),
    ],
)
def test_training(tmp_path: Path, state: str, age: float, line: str, well: bool) -> None:
    status = {
        "state": state, "step": 3, "max_steps": 30, "updated_at": iso(NOW - age), "error": {"message": "out of memory"},
    }  # fmt: skip
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "status.json").write_text(json.dumps(status))
    where = Surroundings(tmp_path, tmp_path, "a", 0, NOW)
    if well:
        assert line in check_training(where)
    else:
        with pytest.raises(UnhealthyError) as caught:
            check_training(where)
        assert line in str(caught.value)


@pytest.mark.parametrize(
    ("content", "line"), [(None, "is not there yet"), ("{", "cannot be read"), ("[]", "holds no object")]
)
def test_a_status_file_that_is_none(tmp_path: Path, content: str | None, line: str) -> None:
    if content is not None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "status.json").write_text(content)
    code, said = ask(tmp_path, "training", TUNESTACK_RUN="a")
    assert code == 1
    assert line in said


def test_training_without_a_run(tmp_path: Path) -> None:
    assert ask(tmp_path, "training") == (1, "training: TUNESTACK_RUN is not set: there is no run to look at")
