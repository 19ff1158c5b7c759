"""The real backup with the real restic: what comes back is what was there, whatever happens in between."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from fast_repository import PASSWORD, plant
from tunestack_train.backup.errors import BusyError
from tunestack_train.backup.locks import using
from tunestack_train.manifest import problems, write_manifest

SOURCE = Path(__file__).resolve().parents[1] / "src"
RESTIC = shutil.which("restic") or "restic"
T = TypeVar("T")
Json = dict[str, object]


class Stack:
    """The volumes of one stack, with a password."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkpoints, self.logs, self.gguf = root / "checkpoints", root / "logs", root / "gguf"
        self.backup, self.secrets, self.shims = root / "backup", root / "secrets", root / "shims"
        for folder in (self.checkpoints, self.logs, self.gguf, self.backup, self.secrets, self.shims):
            folder.mkdir(parents=True)
        (self.secrets / "restic-password").write_text(f"{PASSWORD}\n")
        self.environment = {
            "PATH": f"{self.shims}:{os.environ['PATH']}",
            "PYTHONPATH": str(SOURCE),
            "TUNESTACK_CHECKPOINTS_DIR": str(self.checkpoints),
            "TUNESTACK_LOGS_DIR": str(self.logs),
            "TUNESTACK_GGUF_DIR": str(self.gguf),
            "TUNESTACK_BACKUP_DIR": str(self.backup),
            "TUNESTACK_SECRETS_DIR": str(self.secrets),
        }

    def checkpoint(self, name: str, data: bytes = b"weights") -> Path:
        folder = self.checkpoints / name
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(data)
        (folder / ".hidden").write_text("part of the checkpoint")
        (folder / "deeper").mkdir()
        (folder / "deeper" / "optimizer [1]*.pt").write_bytes(data[::-1])
        write_manifest(folder)
        return folder

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tunestack_train.backup", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0) -> tuple[Json, str]:
        """The JSON of a command, and what it said. Whatever happens, nobody sees a traceback."""
        process = self.start(*arguments, "--json")
        output, said = process.communicate(timeout=60)
        assert "Traceback" not in said
        assert process.returncode == code, said + output
        return json.loads(output) if output else {}, said

    def fails(self, *arguments: str, code: int) -> str:
        answer, _ = self.run(*arguments, code=code)
        error = answer["error"]
        assert isinstance(error, dict)
        assert error["exit_code"] == code
        assert error["remedy"]
        return str(error["message"])

    def shim(self, script: str) -> None:
        """Puts a program before restic, which goes on with the real one by `real`."""
        file = self.shims / "restic"
        file.write_text(f'#!/bin/bash\nreal() {{ exec {RESTIC} "$@"; }}\n{script}\n')
        file.chmod(0o755)

    def status(self) -> Json:
        file = self.logs / "backup_status.json"
        status: Json = json.loads(file.read_text()) if file.exists() else {}
        return status


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path / "stack")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A stack with one snapshot, which tests copy or only read."""
    stack = Stack(tmp_path_factory.mktemp("saved") / "stack")
    plant(stack.backup / "restic")
    stack.checkpoint("first/checkpoint-5", os.urandom(100_000))
    stack.checkpoint("first/adapter", b"final")
    stack.checkpoint("second/checkpoint-1")
    (stack.checkpoints / "first" / "run.json").write_text("{}")
    # None of these may come back: being written, set aside, without manifest, changed since.
    for name in ("first/.checkpoint-10.partial", "first/checkpoint-3.damaged", "first/checkpoint-4.damaged-2"):
        stack.checkpoint(name)
    for folder in (stack.checkpoints, stack.logs, stack.gguf):
        for name in (".restore-x", "lost+found"):
            (folder / name).mkdir()
            (folder / name / "file").write_text("no part of anything")
    (stack.checkpoints / "first" / "checkpoint-7").mkdir()
    (stack.checkpoint("first/checkpoint-8") / "adapter_model.safetensors").write_bytes(b"WEIGHTS")
    (stack.logs / "first").mkdir()
    (stack.logs / "first" / "metrics.jsonl").write_text('{"loss":1}\n')
    (stack.logs / "gpu_metrics.jsonl").write_text("{}\n")
    (stack.gguf / "first.gguf").write_bytes(b"GGUF")
    (stack.gguf / "second.gguf.partial").write_bytes(b"GG")
    stack.taken, stack.said = stack.run("now")  # type: ignore[attr-defined]
    return stack


@pytest.fixture
def copied(saved: Stack, stack: Stack) -> Stack:
    """The snapshot in a repository of its own, to be damaged; its volumes are empty."""
    shutil.copytree(saved.backup, stack.backup, dirs_exist_ok=True)
    return stack


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wait_for(question: Callable[[], T | None], seconds: float = 30.0) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def test_a_snapshot_holds_what_is_complete(saved: Stack) -> None:
    taken: Json = saved.taken  # type: ignore[attr-defined]
    assert taken["checkpoints"] == 3
    excluded = taken["excluded"]
    assert isinstance(excluded, list)
    assert {Path(one["path"]).name: one["reason"] for one in excluded} == {
        "checkpoint-7": "manifest.json is missing",
        "checkpoint-8": "adapter_model.safetensors differs from what was written: its SHA-256 is not the manifest's",
    }
    listed, _ = saved.run("list")
    snapshots = listed["snapshots"]
    assert isinstance(snapshots, list)
    assert [snapshot["runs"] for snapshot in snapshots] == [["first", "second"]]
    status = saved.status()
    assert status["last_snapshot_id"] == taken["snapshot_id"]
    assert status["last_check"]["ok"] is True  # type: ignore[index]
    assert (status["state"], status["error"], status["checkpoints"]) == ("idle", None, 3)


def test_what_is_restored_is_byte_for_byte_what_was_saved(saved: Stack, tmp_path: Path) -> None:
    to = tmp_path / "elsewhere"
    restored, _ = saved.run("restore", "--to", str(to))
    assert restored["verified_manifests"] == 3
    everything = files_below(to)
    expected = {
        f"checkpoints/{name}": data
        for name, data in files_below(saved.checkpoints).items()
        if not re.search(r"partial|damaged|checkpoint-[78]|restore|lost", name)
    }
    expected |= {
        "logs/first/metrics.jsonl": b'{"loss":1}\n',
        "logs/gpu_metrics.jsonl": b"{}\n",
        "gguf/first.gguf": b"GGUF",
    }
    assert everything == expected
    assert "checkpoints/first/checkpoint-5/.hidden" in everything
    assert sorted(path.name for path in to.rglob(".restore-*")) == []


def test_nothing_is_overwritten_unless_forced(copied: Stack) -> None:
    mine = copied.checkpoint("first/checkpoint-99", b"mine")
    message = copied.fails("restore", code=2)
    # The snapshot is of another place: it goes to the volumes of this stack, whose run is in the way.
    assert message == f"{copied.checkpoints / 'first'} exists already"
    assert problems(mine) == []
    assert sorted(path.name for path in copied.checkpoints.iterdir()) == ["first"]
    other, _ = copied.run("restore", "--run", "second", "--include", "checkpoints")
    assert other["restored"] == [str(copied.checkpoints / "second")]
    copied.run("restore", "--run", "first", "--include", "checkpoints", "--force")
    assert not mine.exists()
    assert problems(copied.checkpoints / "first" / "checkpoint-5") == []
    assert sorted(path.name for path in copied.checkpoints.iterdir()) == ["first", "second"]


def test_what_comes_back_changed_is_not_put_into_place(copied: Stack) -> None:
    copied.shim(
        f'[[ " $* " == *" restore "* ]] || real "$@"\n{RESTIC} "$@" || exit\n'
        f'find "{copied.checkpoints}" -name adapter_model.safetensors -path "*adapter*" -exec sed -i s/f/F/ {{}} +'
    )
    message = copied.fails("restore", "--run", "first", code=3)
    assert "first/adapter back as it was: adapter_model.safetensors differs from what was written" in message
    assert [*copied.checkpoints.iterdir(), *copied.gguf.iterdir()] == []


def test_the_services_own_logs_stay_when_a_runs_logs_come_back(copied: Stack) -> None:
    (copied.logs / "gpu_metrics.jsonl").write_text("newer\n")
    restored, _ = copied.run("restore", "--include", "logs")
    assert restored["kept"] == [str(copied.logs / "gpu_metrics.jsonl")]
    assert (copied.logs / "gpu_metrics.jsonl").read_text() == "newer\n"
    assert (copied.logs / "first" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--snapshot", "ffffffff"], "there is no snapshot 'ffffffff'"),
        (["--run", "third"], "holds nothing of the run 'third'"),
    ],
)
def test_what_is_not_there_cannot_be_restored(saved: Stack, tmp_path: Path, arguments: list[str], message: str) -> None:
    assert message in saved.fails("restore", "--to", str(tmp_path / "to"), *arguments, code=4)
    assert not (tmp_path / "to").exists()


def test_another_disk_takes_the_newest_snapshot_only_where_that_is_newer(stack: Stack, tmp_path: Path) -> None:
    plant(stack.backup / "restic")
    stack.checkpoint("first/checkpoint-5")
    stack.checkpoint("other/checkpoint-1")
    (stack.logs / "first").mkdir()
    (stack.logs / "first" / "metrics.jsonl").write_text("{}\n")
    stack.run("now")
    shutil.rmtree(stack.checkpoints / "other")
    stack.checkpoint("third/checkpoint-1")
    # The newest snapshot of all knows nothing of the run that it had to be asked for.
    stack.run("now", "--within=60s")

    same, _ = stack.run("restore", "--run=first", "--if-newer")
    assert same["restored"] == []

    elsewhere = Stack(tmp_path / "elsewhere")
    shutil.copytree(stack.backup, elsewhere.backup, dirs_exist_ok=True)
    stale = elsewhere.checkpoint("first/checkpoint-2", b"yesterday's")
    long_ago = time.time() - 86400
    os.utime(stale / "manifest.json", (long_ago, long_ago))
    taken, _ = elsewhere.run("restore", "--run=first", "--if-newer")
    assert taken["restored"] == [str(elsewhere.checkpoints / "first"), str(elsewhere.logs / "first")]
    assert problems(elsewhere.checkpoints / "first" / "checkpoint-5") == []
    assert not stale.exists()
    assert not (elsewhere.checkpoints / "third").exists()
    again, _ = elsewhere.run("restore", "--run=first", "--if-newer")
    assert again["restored"] == []

    gone, _ = elsewhere.run("restore", "--run=other", "--if-newer")
    assert gone["restored"] == [str(elsewhere.checkpoints / "other")]
    never, _ = elsewhere.run("restore", "--run=never", "--if-newer")
    assert never["restored"] == []
    elsewhere.checkpoint("first/checkpoint-9", b"mine")
    mine, _ = elsewhere.run("restore", "--run=first", "--if-newer")
    assert mine["restored"] == []
    assert "of one run" in elsewhere.fails("restore", "--if-newer", code=2)


def test_where_nothing_was_saved_nothing_is_newer(stack: Stack) -> None:
    answer, _ = stack.run("restore", "--run=first", "--if-newer")
    assert answer == {"snapshot_id": None, "restored": []}


def test_a_last_snapshot_gives_up_in_time_and_leaves_no_lock(saved: Stack, tmp_path: Path) -> None:
    stack = Stack(tmp_path / "hurried")
    plant(stack.backup / "restic")
    stack.checkpoint("first/checkpoint-5")
    taken, _ = stack.run("now", "--within=30s")
    assert taken["checkpoints"] == 1
    # It was not checked, so nobody is told that it is good.
    assert stack.status()["last_success"] is None
    stack.shim('[[ "$*" == *backup* ]] && exec sleep 60; real "$@"')
    began = time.monotonic()
    stack.run("now", "--within=1s", code=130)
    assert time.monotonic() - began < 12
    assert list((stack.backup / "restic" / "locks").iterdir()) == []
    assert "write it as 20s" in stack.start("now", "--within=soon").communicate(timeout=30)[1].lower()


def test_nothing_at_all(stack: Stack) -> None:
    assert "nothing to back up" in stack.fails("now", code=4)
    assert "no repository" in stack.fails("restore", "--to", str(stack.root / "to"), code=4)
    assert "no backup yet" in stack.fails("status", code=4)


def test_serve_waits_then_saves_then_drills_and_stops(stack: Stack) -> None:
    plant(stack.backup / "restic")
    leftover = stack.backup / ".drill-killed"
    (leftover / "checkpoints").mkdir(parents=True)
    (stack.logs / "run.log").write_text("logs alone are no reason for a snapshot")
    only_one = ["--keep-last=1", "--keep-hourly=0", "--keep-daily=0", "--keep-weekly=0"]
    process = stack.start("serve", "--interval=2s", "--drill-interval=1h", *only_one)
    try:
        wait_for(lambda: stack.status().get("state") == "waiting")
        assert not leftover.exists()
        stack.checkpoint("first/checkpoint-5")
        wait_for(lambda: stack.status().get("last_drill"))
        first = stack.status()["last_snapshot_id"]
        drill = stack.status()["last_drill"]
        assert isinstance(drill, dict)
        assert (drill["ok"], drill["verified_manifests"], drill["snapshot_id"]) == (True, 1, first)
        assert list(stack.backup.glob(".drill-*")) == []
        wait_for(lambda: stack.status()["last_snapshot_id"] != first)
        # The first one is forgotten.
        wait_for(lambda: len(list((stack.backup / "restic" / "snapshots").iterdir())) == 1)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=15)
        assert time.monotonic() - begin < 8
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert stack.status()["state"] == "stopped"
    assert said.count("drill: snapshot") == 1
    assert list((stack.backup / "restic" / "locks").iterdir()) == []


SLOW = '[[ " $* " == *" backup "* ]] && real --limit-upload 500 "$@"\nreal "$@"'


def test_once_is_a_turn_of_serve(stack: Stack) -> None:
    waiting, said = stack.run("once", "--interval=2h")
    assert (waiting["state"], waiting["interval_seconds"]) == ("waiting", 7200)
    assert "nothing to back up yet" in said
    stack.run("once", "--drill")  # with no snapshot there is nothing to practise, and nothing wrong
    assert stack.status()["last_drill"] is None

    plant(stack.backup / "restic")
    stack.checkpoint("run/checkpoint-1")
    for _ in range(3):
        taken, _ = stack.run("once", "--keep-last=1", "--keep-hourly=0", "--keep-daily=0", "--keep-weekly=0")
        assert taken["last_snapshot_id"]
    listed, _ = stack.run("list")
    assert len(listed["snapshots"]) == 1  # type: ignore[arg-type] # a list of objects
    drilled, _ = stack.run("once", "--drill")
    assert drilled["last_drill"]["ok"] is True  # type: ignore[index, call-overload] # an object


def test_what_fails_once_is_in_the_status(stack: Stack) -> None:
    stack.checkpoint("run/checkpoint-1")
    plant(stack.backup / "restic")
    (stack.secrets / "restic-password").write_text("wrong\n")
    stack.fails("once", code=3)
    status = stack.status()
    assert status["state"] == "error"
    assert "password" in str(status["error"])


def test_a_signal_during_a_snapshot_ends_restic_cleanly(copied: Stack) -> None:
    copied.checkpoint("third/checkpoint-1", os.urandom(8_000_000))
    copied.shim(SLOW)
    process = copied.start("serve")
    locks = copied.backup / "restic" / "locks"
    wait_for(lambda: copied.status().get("state") == "snapshotting" and list(locks.iterdir()))
    time.sleep(0.5)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=15)
    assert time.monotonic() - begin < 8
    assert process.returncode == 0
    assert list(locks.iterdir()) == []
    copied.run("verify", "--quick")


def test_a_lock_that_an_interrupted_restic_leaves_is_removed(copied: Stack) -> None:
    copied.checkpoint("third/checkpoint-1", os.urandom(8_000_000))
    locks = copied.backup / "restic" / "locks"
    copied.shim(
        '[[ " $* " == *" backup "* ]] || real "$@"\ntrap "exit 130" INT\n'
        f'{RESTIC} --limit-upload 500 "$@" &\nuntil [[ -n "$(ls "{locks}")" ]]; do sleep 0.05; done\n'
        f'kill -9 $!\nwait $!\ntouch "{copied.root}/left"\nwhile sleep 0.1; do :; done'
    )
    process = copied.start("now")
    wait_for((copied.root / "left").exists)
    assert len(list(locks.iterdir())) == 1
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=15)
    assert process.returncode == 130
    assert list(locks.iterdir()) == []


def test_after_a_kill_the_stale_lock_is_cleared_and_the_next_snapshot_is_good(copied: Stack) -> None:
    copied.checkpoint("third/checkpoint-1", os.urandom(8_000_000))
    copied.shim(SLOW)
    process = copied.start("now")
    locks = copied.backup / "restic" / "locks"
    wait_for(lambda: list(locks.iterdir()))
    time.sleep(0.3)
    process.kill()
    process.wait()
    # The restic that goes on alone keeps the lock of the program that started it.
    with pytest.raises(BusyError), using(copied.backup / ".locks", lambda: False, writer=True, wait=0):
        pass
    children = subprocess.run(["pgrep", "-f", str(copied.checkpoints)], capture_output=True, text=True, check=False)
    pids = [int(pid) for pid in children.stdout.split()]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert len(list(locks.iterdir())) == 1
    (copied.shims / "restic").unlink()
    copied.run("now")
    assert list(locks.iterdir()) == []
    assert copied.status()["last_check"]["ok"] is True  # type: ignore[index]


def test_a_checkpoint_rotated_away_while_restic_reads_is_not_saved_in_part(copied: Stack) -> None:
    going = copied.checkpoint("first/checkpoint-5")
    copied.checkpoint("first/checkpoint-10")
    copied.shim(f'[[ " $* " == *" backup "* ]] && rm -f "{going}/deeper/optimizer [1]*.pt"\nreal "$@"')
    taken, _ = copied.run("now")
    assert taken["checkpoints"] == 1
    restored, _ = copied.run("restore", "--to", str(copied.root / "to"), "--include", "checkpoints")
    assert restored["restored"] == [str(copied.root / "to" / "checkpoints" / "first")]
    assert [path.name for path in (copied.root / "to/checkpoints/first").iterdir()] == ["checkpoint-10"]
    # The half one of the first attempt is gone: beside the older snapshot there is one.
    assert len(copied.run("list")[0]["snapshots"]) == 2  # type: ignore[arg-type]


def test_a_checkpoint_that_changes_each_time_is_left_out_by_name(copied: Stack) -> None:
    restless = copied.checkpoint("first/checkpoint-5")
    copied.checkpoint("first/checkpoint-10")
    copied.shim(
        f'if [[ " $* " == *" backup "* ]]; then mv "{restless}/.hidden" {copied.root}/hidden; {RESTIC} "$@"; code=$?;'
        f' mv {copied.root}/hidden "{restless}/.hidden"; exit $code; fi\nreal "$@"'
    )
    taken, _ = copied.run("now")
    assert taken["excluded"] == [{"path": str(restless), "reason": "it changed while it was read"}]
    assert taken["checkpoints"] == 1
    assert len(copied.run("list")[0]["snapshots"]) == 2  # type: ignore[arg-type]


def test_a_file_that_cannot_be_read_is_told_and_the_rest_saved(copied: Stack) -> None:
    copied.checkpoint("first/checkpoint-5")
    # restic 0.14's own words for a file without the right to read it.
    said = '{"message_type":"error","error":{"Op":"open","Path":"b","Err":13},"during":"archival","item":"/logs/b"}'
    copied.shim(f'if [[ " $* " == *" backup "* ]]; then {RESTIC} "$@"; echo \'{said}\' >&2; exit 3; fi\nreal "$@"')
    taken, _ = copied.run("now")
    assert taken["warnings"] == ["/logs/b could not be read: Permission denied"]
    assert len(copied.run("list")[0]["snapshots"]) == 2  # type: ignore[arg-type]


def test_two_at_once_wait_for_each_other(copied: Stack) -> None:
    copied.checkpoint("first/checkpoint-5")
    both = [copied.start("now", "--json") for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert len(copied.run("list")[0]["snapshots"]) == 3  # type: ignore[arg-type]


def test_a_wrong_password(copied: Stack) -> None:
    (copied.secrets / "restic-password").write_text("wrong\n")
    copied.checkpoint("first/checkpoint-5")
    place = f"{copied.secrets / 'restic-password'} does not open the repository {copied.backup / 'restic'}"
    assert place in copied.fails("now", code=3)
    # The service ends: only a person can help. The status says why.
    answer, _ = copied.run("serve", code=3)
    assert copied.status()["error"] == answer["error"]


def test_no_password(stack: Stack) -> None:
    (stack.secrets / "restic-password").unlink()
    assert f"the file {stack.secrets / 'restic-password'} is missing" in stack.fails("now", code=2)


def test_a_repository_without_its_config_is_never_begun_anew(copied: Stack) -> None:
    (copied.backup / "restic" / "config").unlink()
    copied.checkpoint("first/checkpoint-5")
    before = files_below(copied.backup / "restic")
    assert "its file `config` is missing" in copied.fails("now", code=3)
    assert files_below(copied.backup / "restic") == before


def test_an_init_that_was_cut_short_is_done_again(stack: Stack) -> None:
    (stack.backup / "restic" / "keys").mkdir(parents=True)
    (stack.backup / "restic" / "keys" / "0123").write_text("a key that fits no config")
    stack.checkpoint("first/checkpoint-5")
    stack.run("now")
    assert len(list((stack.backup / "restic" / "keys").iterdir())) == 1


def test_damage_fails_verify_snapshot_and_drill_at_once(copied: Stack) -> None:
    largest = max((copied.backup / "restic" / "data").rglob("*"), key=lambda path: path.stat().st_size)
    largest.chmod(0o600)
    whole = largest.read_bytes()
    largest.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert "is damaged" in copied.fails("verify", code=3)
    assert "is damaged" in copied.fails("drill", code=3)
    largest.unlink()
    copied.checkpoint("first/checkpoint-5")
    begin = time.monotonic()
    copied.fails("drill", code=3)
    assert time.monotonic() - begin < 10  # restic itself would try again for fifteen minutes
    assert "is damaged" in copied.fails("now", code=3)
    status = copied.status()
    assert status["last_success"] is None  # the copied repository came without a status
    assert status["last_check"]["ok"] is False  # type: ignore[index]
    drill = status["last_drill"]
    assert isinstance(drill, dict)
    assert (drill["ok"], drill["verified_manifests"]) == (False, 0)
    assert list(copied.backup.glob(".drill-*")) == []


def test_an_object_store_that_cannot_be_reached(stack: Stack) -> None:
    stack.environment |= {
        "RESTIC_REPOSITORY": "s3:http://someone:secret@127.0.0.1:1/bucket",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    stack.checkpoint("first/checkpoint-5")
    message = stack.fails("now", code=7)
    assert "s3:http://127.0.0.1:1/bucket cannot be reached" in message
    assert "secret@" not in json.dumps(stack.status())
    process = stack.start("serve")
    wait_for(lambda: stack.status().get("state") == "error")
    assert process.poll() is None  # it goes on trying
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


@pytest.fixture
def on_small_disk(stack: Stack, small_disk: Path) -> Stack:
    """A stack whose backups go to a disk of nine megabytes."""
    stack.backup = small_disk / "backup"
    stack.backup.mkdir()
    stack.environment["TUNESTACK_BACKUP_DIR"] = str(stack.backup)
    return stack


def test_a_full_disk(on_small_disk: Stack) -> None:
    stack = on_small_disk
    plant(stack.backup / "restic")
    folder = stack.checkpoint("first/checkpoint-5", os.urandom(2_000_000))
    stack.run("now")
    assert "the disk is too full for a drill" in stack.fails("drill", code=6)
    assert list(stack.backup.glob(".drill-*")) == []
    stack.checkpoint("first/checkpoint-6", os.urandom(4_000_000))
    assert "the disk is full: restic could not write" in stack.fails("now", code=6)
    assert problems(folder) == []
