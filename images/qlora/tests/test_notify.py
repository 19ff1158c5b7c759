"""Word to a webhook: its form, and that it never harms what it reports on."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from conftest import Workplace
from queue_site import Site
from tunestack_train.ending import alerts, tell_webhook
from tunestack_train.errors import DataError
from tunestack_train.log_threads import AllLogs, InBackground
from tunestack_train.logs import WeightsAndBiases
from tunestack_train.notify import Messenger, Word, send, webhook_url
from tunestack_train.resolve import Layer, resolve
from tunestack_train.status import Status, now
from tunestack_train.stop import Interrupted, StopSignal


class Hook:
    """A webhook that gives the next of `answers`, the last one again and again, and keeps what it was sent."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.got: list[dict[str, str]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0])
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/services/secret-part"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook(200)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_it_is_told_in_slack_s_form(hook: Hook) -> None:
    said: list[str] = []
    assert send(
        hook.url, Word("sweep <1> & 2: failed", good=False, seconds=3725, link="https://x.example/a"), said.append
    )
    assert hook.got == [{"text": "❌ *sweep &lt;1&gt; &amp; 2: failed* after 1 h 2 min\n<https://x.example/a>"}]
    assert said == []


def test_it_is_tried_again_where_that_can_help(hook: Hook) -> None:
    hook.answers = [500, 429, 200]
    assert send(hook.url, Word("a", good=True), print, (0.0, 0.0, 0.0))
    assert len(hook.got) == 3


def test_what_is_refused_is_said_once_without_the_address(hook: Hook) -> None:
    hook.answers = [404]
    said: list[str] = []
    assert not send(hook.url, Word("a", good=True), said.append, (0.0, 0.0))
    assert len(hook.got) == 1
    assert "it answered 404" in said[0]
    assert "secret-part" not in said[0]


def test_a_webhook_that_is_away_is_tried_a_bounded_number_of_times(hook: Hook) -> None:
    hook.answers = [503]
    said: list[str] = []
    assert not send(hook.url, Word("a", good=True), said.append, (0.0, 0.0))
    assert len(hook.got) == 3
    assert len(said) == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x", "nonsense"])
def test_only_http_is_asked(url: str) -> None:
    said: list[str] = []
    assert not send(url, Word("a", good=True), said.append)
    assert url not in said[0]


def test_a_messenger_keeps_nobody_waiting_and_drops_what_is_too_much() -> None:
    said: list[str] = []
    messenger = Messenger(lambda: "http://127.0.0.1:9/", said.append, (30.0,))
    began = time.monotonic()
    for number in range(150):
        messenger.tell(Word(str(number), good=True))
    assert time.monotonic() - began < 5
    assert sum("too much is waiting" in line for line in said) >= 49


def test_the_address_is_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESTACK_WEBHOOK_URL", "http://from.example/environment")
    assert webhook_url() == "http://from.example/environment"
    (tmp_path / "webhook-url").write_text("http://from.example/file\n")
    assert webhook_url(tmp_path) == "http://from.example/file"


def test_an_experiment_s_end_is_told_and_its_webhook_harms_nothing(tmp_path: Path, hook: Hook) -> None:
    site = Site(tmp_path).make()
    command = 'echo "{\\"loss\\": 0.25}" > $EXPERIMENT_OUTPUT_DIR/metrics.json'
    site.push([{"name": "good", "command": command}, {"name": "bad", "command": "exit 4"}])
    done = site.once("first", "--link=https://x.example/results", environment={"TUNESTACK_WEBHOOK_URL": hook.url})
    assert done.returncode == 0, done.stderr
    texts = [one["text"] for one in hook.got]
    assert len(texts) == 2
    assert texts[0].startswith("✅ *experiment good: completed* after")
    assert "loss 0.25" in texts[0]
    assert texts[0].endswith("<https://x.example/results>")
    assert texts[1].startswith("❌ *experiment bad: failed* after")
    assert "exit code 4" in texts[1]
    assert hook.url not in done.stdout + done.stderr
    site.edit(lambda entries: entries.append({"name": "unheard", "command": "true"}))
    away = site.once("first", environment={"TUNESTACK_WEBHOOK_URL": "http://127.0.0.1:9/secret-part"})
    assert away.returncode == 0
    assert site.status("unheard") == "completed"


def test_the_end_of_a_run_is_told(
    workplace: Workplace, hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESTACK_WEBHOOK_URL", hook.url)
    finished, said = workplace.run_here("told", max_steps=2)
    assert [one["text"].split("\n")[0][:27] for one in hook.got] == ["✅ *run told: completed* aft"]
    assert f"loss {finished.first_loss:.4f} → {finished.last_loss:.4f}" in hook.got[0]["text"]
    assert hook.url not in said
    missing = tmp_path / "none.jsonl"
    command = ["run", "--name=lost", "--preset=rehearsal", f"--data={missing}"]
    failed = subprocess.run(
        [sys.executable, "-m", "tunestack_train", *command],
        env=workplace.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert failed.returncode == 3, failed.stderr
    assert hook.got[1]["text"].startswith("❌ *run lost: failed* after")
    assert str(missing) in hook.got[1]["text"]


def test_a_run_within_an_experiment_leaves_the_word_to_the_runner(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESTACK_WEBHOOK_URL", hook.url)
    status = Status(run="r", preset="p", model="m", started_at=now(), state="completed")
    monkeypatch.setenv("EXPERIMENT_NAME", "r")
    tell_webhook(status, print)
    assert hook.got == []
    monkeypatch.delenv("EXPERIMENT_NAME")
    tell_webhook(status, print)
    tell_webhook(replace(status, state="stopped"), print)
    assert len(hook.got) == 1


def test_weights_and_biases_keeps_an_alert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real library, offline: what it would send later holds the alert."""
    # Runs without a key keep the library from being loaded; afterwards it is as before.
    monkeypatch.setitem(sys.modules, "wandb", sys.modules.get("wandb"))
    config = resolve("alerted", "rehearsal", [Layer("test", {"data": "d"})]).config
    said: list[str] = []
    logs = AllLogs([InBackground("W&B", lambda: WeightsAndBiases(config, tmp_path, None), said.append, local=False)])
    status = Status(run="alerted", preset="p", model="m", started_at=now(), step=3, loss=1.25, first_loss=2.5)
    with pytest.raises(DataError), alerts(logs, lambda: status, StopSignal()):
        raise DataError("row 7 is bad", "mend it")
    with alerts(logs, lambda: status, StopSignal()):
        pass
    logs.close(60)
    assert said == []
    [kept] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = kept.read_bytes()
    for text in (b"run alerted: failed", b"row 7 is bad", b"run alerted: completed", b"2.5000 \xe2\x86\x92 1.2500"):
        assert text in content


def test_a_run_that_is_stopped_alerts_nobody(tmp_path: Path) -> None:
    stop = StopSignal()
    stop.requested = True
    logs = AllLogs([])
    told: list[Word] = []
    logs.tell = told.append  # type: ignore[method-assign]
    status = Status(run="r", preset="p", model="m", started_at=now())
    with alerts(logs, lambda: status, stop):
        pass
    with pytest.raises(Interrupted), alerts(logs, lambda: status, stop):
        raise Interrupted(15)
    assert told == []
