"""Logs that never hold a run up, and what a run leaves to be looked at: the curve and the model card."""

import json
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from conftest import SOURCES
from tunestack_train.errors import SettingsError
from tunestack_train.log_threads import AllLogs, InBackground, open_logs
from tunestack_train.logs import JsonLines, Metrics, MetricsLog, read_metrics, wandb_mode
from tunestack_train.model_card import card
from tunestack_train.plots import draw_curve
from tunestack_train.resolve import Layer, resolve
from tunestack_train.settings import RunConfig


def config(**settings: str) -> RunConfig:
    return resolve("my-run", "rehearsal", [Layer("test", {"data": "d", **settings})]).config


class Kept:
    """Keeps what it is given, after waiting for `gate`; fails at the steps in `broken`."""

    def __init__(self, gate: threading.Event | None = None, broken: tuple[int, ...] = ()) -> None:
        self.steps: list[int] = []
        self.closed = False
        self._gate = gate
        self._broken = broken

    def log(self, metrics: Metrics, step: int) -> None:
        if self._gate is not None:
            self._gate.wait(20)
        if step in self._broken:
            raise OSError("no room")
        self.steps.append(step)

    def close(self) -> None:
        self.closed = True


def test_a_log_that_hangs_holds_nothing_up() -> None:
    gate, quick = threading.Event(), Kept()
    stuck, said = Kept(gate), list[str]()
    logs = AllLogs(
        [
            InBackground("stuck", lambda: stuck, said.append, local=False),
            InBackground("quick", lambda: quick, said.append),
        ]
    )
    began = time.monotonic()
    for step in range(100):
        logs.log({"loss": 1.0}, step)
    logs.flush(5)
    assert quick.steps == list(range(100))
    logs.close(0.2)
    assert time.monotonic() - began < 2
    assert quick.closed
    assert said == ["note: stuck did not take the last 100 entries in time"]
    gate.set()


def test_what_no_longer_fits_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunestack_train.log_threads._MOST_WAITING", 3)
    gate, said = threading.Event(), list[str]()
    log = InBackground("slow", lambda: Kept(gate), said.append)
    for step in range(10):
        log.log({}, step)
    assert not log.flush(0.05)
    gate.set()
    assert log.flush(5)
    log.end()
    log.join(5)
    lost = int(said[0].split("too slow for ")[1].split()[0])
    assert 6 <= lost <= 7  # one may be with the thread already


def test_errors_of_a_log_are_said_once_and_end_nothing() -> None:
    said = list[str]()
    kept = Kept(broken=(2, 3, 5))
    log = InBackground("metrics", lambda: kept, said.append)
    for step in range(7):
        log.log({}, step)
    log.end()
    log.join(5)
    assert kept.steps == [0, 1, 4, 6]
    assert said == [f"note: metrics cannot be written from step {step} on: no room" for step in (2, 5)]


def test_a_log_that_cannot_be_opened_is_named() -> None:
    def refuse() -> MetricsLog:
        raise ConnectionError("connection refused")

    said = list[str]()
    log = InBackground("W", refuse, said.append)
    log.log({}, 1)
    log.end()
    log.join(5)
    assert said == ["note: W gets nothing of this run: connection refused"]


def test_a_line_that_a_full_disk_cut_off_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = JsonLines(tmp_path / "metrics.jsonl", 0, lambda: "now")
    log.log({"loss": 1.0}, 1)
    real = log._file

    class Full:
        name = "metrics.jsonl"

        def write(self, data: bytes) -> int:
            return real.write(data[:9])

    monkeypatch.setattr(log, "_file", Full())
    with pytest.raises(OSError, match="no room for a whole line"):
        log.log({"loss": 2.0}, 2)
    monkeypatch.undo()
    log.log({"loss": 3.0}, 3)
    log.close()
    assert [entry["step"] for entry in read_metrics(tmp_path / "metrics.jsonl")] == [1, 3]


@pytest.mark.parametrize(
    ("setting", "environment", "key", "mode"),
    [
        ("auto", {}, None, "disabled"),
        ("auto", {}, "k", "online"),
        ("auto", {"WANDB_MODE": "offline"}, "k", "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, "k", "disabled"),
        ("offline", {"WANDB_MODE": "online"}, None, "offline"),
        ("disabled", {}, "k", "disabled"),
    ],
)
def test_where_wandb_is_wanted(setting: str, environment: dict[str, str], key: str | None, mode: str) -> None:
    assert wandb_mode(config(wandb_mode=setting), key, environment) == mode


def test_wandb_online_needs_a_key() -> None:
    with pytest.raises(SettingsError, match="no key is given"):
        wandb_mode(config(wandb_mode="online"), None, {})


def test_an_offline_run_of_wandb_is_kept_with_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package itself, as in a run: hidden at first, opened by a thread, closed by it."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    said = list[str]()
    logs = open_logs(config(wandb_mode="offline"), tmp_path, 0, said.append)
    logs.log({"loss": 1.25, "learning_rate": 1e-4}, 7)
    logs.close(90)
    assert said == []
    [folder] = (tmp_path / "wandb").glob("offline-run-*-my-run")
    written = (folder / "run-my-run.wandb").read_bytes()
    assert b"train/loss" in written
    assert b"1.25" in written
    assert [entry["loss"] for entry in read_metrics(tmp_path / "metrics.jsonl")] == [1.25]


def test_offline_runs_are_sent_once_and_the_key_is_no_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from tunestack_train.cli import main

    for name in ("first", "second"):
        (tmp_path / "logs" / name / "wandb" / f"offline-run-1-{name}").mkdir(parents=True)
    (tmp_path / "logs" / "first" / "wandb" / "offline-run-1-first" / "run.wandb.synced").touch()
    package = tmp_path / "packages" / "wandb"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import os, sys, json; print(json.dumps([sys.argv[1:], os.environ['WANDB_API_KEY']]))"
    )
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("TUNESTACK_LOGS_DIR", str(tmp_path / "logs"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert main(["wandb-sync"]) == 2
    assert "1 runs wait to be sent, and no key is given" in capfd.readouterr().err
    monkeypatch.setenv("WANDB_API_KEY", "secret-key")
    assert main(["wandb-sync"]) == 0
    waiting = tmp_path / "logs" / "second" / "wandb" / "offline-run-1-second"
    assert json.loads(capfd.readouterr().out) == [["sync", str(waiting)], "secret-key"]
    assert main(["wandb-sync", "--name=first"]) == 0
    assert "nothing to send: 1 runs" in capfd.readouterr().out


def curve(count: int) -> list[dict[str, object]]:
    return [{"step": step, "loss": 5 / step, "learning_rate": 1e-4 / step} for step in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 60])
def test_the_curve_is_drawn(tmp_path: Path, count: int) -> None:
    assert draw_curve(tmp_path / "curve.png", [*curve(count), {"step": 1, "eval_loss": 2.0}], "my run")
    head = (tmp_path / "curve.png").read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    assert struct.unpack(">II", head[16:24]) == (960, 720)


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    assert not draw_curve(tmp_path / "curve.png", [{"step": 1, "loss": None}], "my run")
    assert not (tmp_path / "curve.png").exists()


def test_drawing_needs_neither_a_screen_nor_a_home(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from tunestack_train.plots import draw_curve; "
    code += "print(draw_curve(Path(sys.argv[1]), [{'step': 1, 'loss': 2.0}], 't'))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "c.png")],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "HOME": "/proc/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_card_says_what_it_was_made_of_and_under_which_terms() -> None:
    record: dict[str, object] = {
        "config": {"name": "my-run", "model": "google/gemma-2-2b", "lora_r": 32},
        "data": {"source": "hub:someone/rows", "format": "chat", "rows": 12, "sha256": "ab" * 32},
        "versions": {"torch": "2.7.1"},
        "model": {"commit": "c0ffee"},
    }
    text = card(record, [*curve(3), {"step": 3, "eval_loss": 1.75}], steps=3, curve=True)
    head = text.split("---\n")[1]
    assert 'base_model: "google/gemma-2-2b"\n' in head
    assert "license: gemma\n" in head
    assert 'datasets: ["someone/rows"]\n' in head
    for part in (
        "in 3 steps on 12 rows of chat from `hub:someone/rows`",
        "![Loss and learning rate over the steps](curve.png)",
        "| first loss | `5.0000` |",
        "| best loss on what was held out | `1.7500` |",
        f"| SHA-256 of the data | `{'ab' * 32}` |",
        "| lora_r | `32` |",
        "| torch | `2.7.1` |",
        "| commit of the base model | `c0ffee` |",
        "Gemma Terms of Use",
        'from_pretrained("google/gemma-2-2b"',
    ):
        assert part in text
    own = card(record | {"config": {"name": "r", "model": "/models/mine"}}, [], steps=1, curve=False)
    assert "base_model" not in own
    assert "curve.png" not in own
    assert "Gemma" not in own


def test_a_dead_server_costs_a_run_no_time(tmp_path: Path) -> None:
    """In a process of its own, as wandb leaves threads behind."""
    code = """
import sys, time
from pathlib import Path
from tunestack_train.device import set_up_libraries
from tunestack_train.log_threads import open_logs
from tunestack_train.resolve import Layer, resolve
set_up_libraries()
config = resolve("r", "rehearsal", [Layer("test", {"data": "d"})]).config
logs = open_logs(config, Path(sys.argv[1]), 0, lambda text: None)
began = time.monotonic()
for step in range(1, 6):
    logs.log({"loss": 1.0}, step)
    logs.flush(5)
print(time.monotonic() - began)
logs.close(2)
"""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ
        | {"PYTHONPATH": str(SOURCES), "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) < 3
    assert time.monotonic() - began < 40
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 5
