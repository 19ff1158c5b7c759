"""What the training tests share: a small data set, and runs in folders of their own."""

import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunestack_train.device import set_up_libraries
from tunestack_train.presets import Value
from tunestack_train.progress import Console
from tunestack_train.resolve import Layer, resolve
from tunestack_train.run import Finished, Folders, Run
from tunestack_train.stop import StopSignal

SUBJECTS = (
    "a run",
    "the adapter",
    "a checkpoint",
    "the manifest",
    "a snapshot",
    "the image",
    "a volume",
    "the monitor",
)
VERBS = ("is saved", "is restored", "is checked", "is removed", "is named", "is shown")
SOURCES = Path(__file__).parent.parent / "src"


@dataclass(frozen=True)
class Workplace:
    """Folders of some runs, the data that they train on, and both ways to start one."""

    folders: Folders
    data: Path

    def arguments(self, name: str, **settings: Value) -> list[str]:
        changes = [f"--set={key}={value}" for key, value in settings.items()]
        return ["run", f"--name={name}", "--preset=rehearsal", f"--data={self.data}", *changes]

    def command(self, name: str, **settings: Value) -> list[str]:
        return [sys.executable, "-m", "tunestack_train", *self.arguments(name, **settings)]

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": str(SOURCES),
            "PYTHONUNBUFFERED": "1",
            "HF_HOME": str(self.folders.cache.parent),
            "TUNESTACK_CHECKPOINTS_DIR": str(self.folders.checkpoints),
            "TUNESTACK_LOGS_DIR": str(self.folders.logs),
        }

    def run_here(self, name: str, stop: StopSignal | None = None, **settings: Value) -> tuple[Finished, str]:
        """Trains in this process; returns how it ended and what it said."""
        given: dict[str, Value] = {"data": str(self.data), **settings}
        said = io.StringIO()
        resolved = resolve(name, "rehearsal", [Layer("test", given)])
        return Run(resolved, self.folders, stop or StopSignal(), Console(said)).execute(), said.getvalue()


def conversations(count: int) -> list[dict[str, object]]:
    """Rows in chat form, every fifth with a system turn and every seventh with two questions."""
    rows: list[dict[str, object]] = []
    for number in range(count):
        subject, verb = SUBJECTS[number % len(SUBJECTS)], VERBS[number % len(VERBS)]
        turns = [
            {"role": "user", "content": f"What happens when {subject} {verb}, case {number}?"},
            {"role": "assistant", "content": f"When {subject} {verb}, the log says so: `{subject} {verb}` ({number})."},
        ]
        if number % 7 == 0:
            turns += [
                {"role": "user", "content": "And then?"},
                {"role": "assistant", "content": f"Then {subject} stays as it is."},
            ]
        if number % 5 == 0:
            turns.insert(0, {"role": "system", "content": "Answer in one sentence."})
        rows.append({"messages": turns})
    return rows


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """One workplace for the tests of a file, so that names of runs need to differ there alone."""
    set_up_libraries()
    folder = tmp_path_factory.mktemp("workplace")
    data = write_jsonl(folder / "questions.jsonl", conversations(60))
    return Workplace(Folders(folder / "checkpoints", folder / "logs", folder / "hub" / "tunestack"), data)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on an empty disk of nine megabytes: the one that `npm test` gives, or one mounted here."""
    given = os.environ.get("TUNESTACK_TEST_SMALL_DISK")
    if given is None:
        mounted = tmp_path / "small-disk"
        mounted.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=9m", "none", str(mounted)]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("no small disk: name one of 9 MB in TUNESTACK_TEST_SMALL_DISK, or run as root to mount one")
        yield mounted
        subprocess.run(["umount", mounted], check=True)
        return
    # Tests of another file, in another process, may want it at the same time.
    with (Path(tempfile.gettempdir()) / "small-disk.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = Path(given) / "test"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
        shutil.rmtree(folder)
