"""What a run tells the world: status, metrics, TensorBoard events, the console."""

import io
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tunestack_train.events import EventWriter, masked_crc32c
from tunestack_train.logs import JsonLines, TensorBoard, WeightsAndBiases, first_loss, read_metrics
from tunestack_train.progress import Console, describe, duration
from tunestack_train.resolve import Layer, resolve
from tunestack_train.status import Status, StatusFile

START = Status(run="r", preset="rehearsal", model="rehearsal", started_at="2026-11-23T10:00:00.000+00:00")


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    reader = EventAccumulator(str(folder))
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(tag)]


def test_the_checksum_is_that_of_tfrecord() -> None:
    # CRC-32C of "123456789" is 0xE3069283 (RFC 3720 uses the same polynomial); masked as TFRecord does.
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@given(st.binary(max_size=64), st.integers(0, 63), st.integers(1, 255))
def test_the_checksum_notices_every_changed_byte(data: bytes, position: int, change: int) -> None:
    changed = bytearray(data or b"x")
    changed[position % len(changed)] ^= change
    assert masked_crc32c(bytes(changed)) != masked_crc32c(data or b"x")


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "new")
    for step in (0, 1, 300, 2**40):
        writer.scalar("train/loss", step / 3, step, wall_time=1000.5 + step)
    writer.close()
    expected = [(step, pytest.approx(step / 3, rel=1e-6)) for step in (0, 1, 300, 2**40)]
    assert scalars(tmp_path / "new", "train/loss") == expected


def test_a_resumed_run_replaces_the_steps_that_it_does_again(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path, resume_step=0)
    for step in range(1, 8):
        first.log({"loss": float(step)}, step)
    first.close()
    again = TensorBoard(tmp_path, resume_step=5)
    again.log({"loss": 60.0}, 6)
    again.close()
    assert scalars(tmp_path, "train/loss") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 5.0), (6, 60.0)]


def test_a_resumed_run_takes_its_later_lines_out_of_the_metrics(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "metrics.jsonl"
    first = JsonLines(path, 0, lambda: "now")
    for step in (1, 2, 3):
        first.log({"loss": 10.0 - step, "learning_rate": float("nan")}, step)
    first.close()
    with path.open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "lo')  # cut off by a kill
    again = JsonLines(path, 2, lambda: "later")
    again.log({"loss": 7.5}, 3)
    again.close()
    assert read_metrics(path) == [
        {"time": "now", "step": 1, "loss": 9.0, "learning_rate": None},
        {"time": "now", "step": 2, "loss": 8.0, "learning_rate": None},
        {"time": "later", "step": 3, "loss": 7.5},
    ]
    assert first_loss(path) == 9.0
    assert first_loss(tmp_path / "missing") is None


def test_weights_and_biases_gets_the_figures_and_never_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    calls: list[tuple[str, object]] = []

    class FakeRun:
        def log(self, figures: dict[str, float], step: int) -> None:
            calls.append(("log", (figures, step)))

        def finish(self) -> None:
            calls.append(("finish", None))

    fake = types.ModuleType("wandb")
    vars(fake).update(
        login=lambda **options: calls.append(("login", options)),
        init=lambda **options: calls.append(("init", options)) or FakeRun(),
        Settings=lambda **options: options,
        teardown=lambda: calls.append(("teardown", None)),
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = resolve("my-run", "rehearsal", [Layer("test", {"data": "d"})]).config
    log = WeightsAndBiases(config, tmp_path, "secret-key")
    log.log({"loss": 1.5}, 7)
    log.close()
    kinds = [kind for kind, _ in calls]
    assert kinds == ["login", "init", "log", "finish", "teardown"]
    started = dict(calls)["init"]
    assert isinstance(started, dict)
    assert (started["project"], started["id"], started["resume"]) == ("tunestack", "my-run", "allow")
    assert "secret-key" not in repr(started)
    assert calls[2] == ("log", ({"train/loss": 1.5}, 7))


def test_the_status_is_whole_at_any_moment_and_stays_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunestack_train.status._SECONDS_BETWEEN", 0.02)
    path = tmp_path / "logs" / "status.json"
    status = StatusFile(path, START)
    status.start()
    seen: set[str] = set()
    until = time.monotonic() + 5
    while len(seen) < 5 and time.monotonic() < until:
        seen.add(json.loads(path.read_text(encoding="utf-8"))["updated_at"])
        status.update(step=len(seen))
    assert len(seen) >= 5
    status.end(state="completed", exit_code=0)
    after = json.loads(path.read_text(encoding="utf-8"))
    assert (after["state"], after["exit_code"], after["run"], after["error"]) == ("completed", 0, "r", None)
    time.sleep(0.1)
    assert json.loads(path.read_text(encoding="utf-8")) == after
    assert [file.name for file in path.parent.iterdir()] == ["status.json"]


def test_a_status_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    status = StatusFile(tmp_path / "status.json", START)
    (tmp_path / ".status.json.partial").mkdir()
    (tmp_path / ".status.json.partial" / "in the way").touch()
    with pytest.raises(IsADirectoryError):
        (tmp_path / ".status.json.partial").write_text("")
    status.update(step=3)
    assert status.status.step == 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_console_moves_one_line_on_a_terminal_and_adds_lines_elsewhere() -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        console = Console(stream)
        console.say("begin")
        for step in (1, 2):
            console.progress(Status("r", "p", "m", "now", step=step, max_steps=2))
        console.say("end")
    assert file.getvalue() == "begin\nstep 1/2\nstep 2/2\nend\n"
    assert terminal.getvalue() == "begin\nstep 1/2\r\x1b[2Kstep 2/2\r\x1b[2Kend\n"


def test_a_line_that_moves_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "16")
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        Console(stream).progress(Status("r", "p", "m", "now", step=12345, max_steps=54321, loss=1.5))
    assert terminal.getvalue() == "step 12345/5432"
    assert file.getvalue() == "step 12345/54321  loss 1.5000\n"


def test_a_line_of_progress_says_what_is_known() -> None:
    known = Status(
        "r",
        "p",
        "m",
        "now",
        step=12,
        max_steps=30,
        loss=5.13241,
        learning_rate=0.0002,
        tokens_per_second=12504.2,
        eta_seconds=3723,
        gpu_memory_bytes=3 * 2**30,
    )
    assert describe(known) == "step 12/30  loss 5.1324  lr 2.00e-04  12,504 tokens/s  ETA 1:02:03  3.0 GiB"
    assert describe(Status("r", "p", "m", "now", step=12)) == "step 12"
    assert (
        describe(Status("r", "p", "m", "now", step=12, loss=2.5, eval_loss=3.0)) == "step 12  loss 2.5000  eval 3.0000"
    )


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (600, "10:00"), (3600, "1:00:00")])
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
