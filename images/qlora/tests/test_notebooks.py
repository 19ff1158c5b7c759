"""The notebooks that `npm run notebook` writes, executed: stubs for what only Colab has, a folder in place of Drive."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

PACKAGE = Path(__file__).parent.parent
# Written by the TypeScript tests of the generator, which fail where these are not what it writes.
# In the image of the tests the package stands alone, with these mounted beside it.
PROJECT = PACKAGE.parent.parent
NOTEBOOKS = Path(os.environ.get("TUNESTACK_NOTEBOOKS", PROJECT / "test" / "golden" / "notebooks"))
EXAMPLES = next(path for path in (Path("/examples"), PROJECT / "examples") if (path / "data").is_dir())


@dataclass(frozen=True)
class Colab:
    """A session's places: `content` goes with the session, `drive` stays."""

    root: Path

    @property
    def content(self) -> Path:
        return self.root / "content"

    @property
    def drive(self) -> Path:
        return self.root / "stub" / "drive" / "MyDrive"

    def new_session(self) -> None:
        shutil.rmtree(self.content, ignore_errors=True)
        self.content.mkdir()

    def calls(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in (self.root / "stub" / "calls.jsonl").read_text().splitlines()]

    def notebook(
        self, name: str, addresses: Mapping[str, str], settings: Mapping[str, object]
    ) -> nbformat.NotebookNode:
        """A notebook with this session's places and addresses in it, and other values in its cell of settings."""
        text = (NOTEBOOKS / f"{name}.ipynb").read_text().replace("/content", str(self.content))
        for address, other in addresses.items():
            assert address in text
            text = text.replace(address, other)
        notebook = nbformat.reads(text, as_version=4)
        for key, value in settings.items():
            changed = 0
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    cell.source, count = re.subn(rf"(?m)^{key} = .*?(?=  #|$)", f"{key} = {value!r}", cell.source)
                    changed += count
            assert changed == 1, f"{key} is no setting"
        return notebook

    def execute(self, notebook: nbformat.NotebookNode, cut_off_at: Path | None = None) -> str:
        """Runs all cells; returns what they printed. When the file `cut_off_at` appears the session is gone at once."""
        client = NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": "/"}})
        over = threading.Event()
        if cut_off_at is not None:
            threading.Thread(target=cut_off, args=(client, cut_off_at, over), daemon=True).start()
        try:
            client.execute(cwd=str(self.content))
        except CellExecutionError:
            pytest.fail(printed(notebook))
        finally:
            over.set()
        return printed(notebook)


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") or "\n".join(output.get("traceback", [])) for output in outputs)


@pytest.fixture
def colab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Colab:
    session = Colab(tmp_path)
    session.drive.mkdir(parents=True)
    (tmp_path / "stub" / "secrets.json").write_text(json.dumps({"GIT_TOKEN": "t0ken-of-git"}))
    session.new_session()
    for name, value in {
        "STUB_COLAB": str(tmp_path / "stub"),
        "PYTHONPATH": str(Path(__file__).parent / "stubs"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "OMP_NUM_THREADS": "1",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@host.example",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@host.example",
    }.items():
        monkeypatch.setenv(name, value)
    return session


def bare_repository(folder: Path, files: Mapping[str, str | Path]) -> str:
    """A bare repository with one commit of these files (texts, or paths to copy); returns its address."""
    work = folder.with_suffix(".work")
    for name, content in files.items():
        target = work / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            target.write_text(content)
        elif content.is_dir():
            shutil.copytree(content, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(content, target)
    git(work, "init", "--quiet", "--initial-branch=main")
    git(work, "add", ".")
    git(work, "commit", "--quiet", "--message=all")
    git(work.parent, "clone", "--quiet", "--bare", str(work), str(folder))
    return f"file://{folder}"


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def tunestack_repository(folder: Path) -> str:
    files: dict[str, str | Path] = {
        "images/qlora/src": PACKAGE / "src",
        "images/qlora/pyproject.toml": PACKAGE / "pyproject.toml",
        "examples/data/tunestack-help.jsonl": EXAMPLES / "data" / "tunestack-help.jsonl",
    }
    return bare_repository(folder, files)


@pytest.mark.parametrize("file", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_is_a_valid_notebook_without_outputs(file: Path) -> None:
    notebook = nbformat.read(file, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} >= {"colab_gpu_daemon", "colab_train", "colab_train_other"}


def test_a_setting_with_a_space_is_one_word_of_the_command() -> None:
    notebook = nbformat.read(NOTEBOOKS / "colab_train.ipynb", as_version=4)
    [settings] = [cell.source for cell in notebook.cells if "\nCOMMAND = " in cell.source]
    named: dict[str, object] = {"CLONE": "/content/tunestack"}
    exec(re.sub(r'(?m)^DATA = ".*?"', 'DATA = "data/my notes.jsonl"', settings), named)
    assert "--data=data/my notes.jsonl" in shlex.split(str(named["COMMAND"]))


def cut_off(client: NotebookClient, file: Path, over: threading.Event) -> None:
    """As when Colab takes the machine away: the kernel and all that it started are gone at once."""
    while not over.wait(0.05):
        if file.exists():
            kernel = client.km.provisioner.pid
            children = Path(f"/proc/{kernel}/task").glob("*/children")
            pids = [int(pid) for listed in children for pid in listed.read_text().split()]
            for pid in [kernel, *pids]:
                os.kill(pid, signal.SIGKILL)
            return


@pytest.mark.timeout(900)  # two trainings, of which a busy machine makes minutes
def test_trains_the_rehearsal_is_killed_in_the_middle_and_resumes(colab: Colab) -> None:
    address = {"https://git.example/team/tunestack.git": tunestack_repository(colab.root / "tunestack.git")}
    settings = {"RUN": "mine", "PRESET": "rehearsal", "SET": {"max_steps": "40", "save_steps": "5"}}
    run = colab.drive / "tunestack" / "tunestack" / "checkpoints" / "mine"

    with pytest.raises(DeadKernelError):
        colab.execute(colab.notebook("colab_train", address, settings), run / "checkpoint-10")
    assert not (run / "adapter").exists()

    colab.new_session()
    said = colab.execute(colab.notebook("colab_train", address, settings))
    resumed = re.search(r"going on after step (\d+)", said)
    assert resumed is not None, said
    assert 10 <= int(resumed[1]) < 40
    assert "GIT_TOKEN" not in said
    assert "t0ken-of-git" not in said
    metrics = colab.drive / "tunestack" / "tunestack" / "logs" / "mine" / "metrics.jsonl"
    steps = [line["step"] for line in map(json.loads, metrics.read_text().splitlines()) if "loss" in line]
    assert steps == list(range(1, 41))
    exported = colab.drive / "tunestack" / "tunestack" / "exports" / "mine.zip"
    assert exported.stat().st_size > 1000
    # The fused kernels, which are for CUDA alone; PyTorch stays as the session has it.
    assert not any(
        "torch==" in call["arguments"].replace("--constraint", "") for call in colab.calls() if call["call"] == "pip"
    )
    downloads = [call["filename"] for call in colab.calls() if call["call"] == "files.download"]
    assert [Path(name).name for name in downloads] == ["mine.zip"]


def test_a_mistake_is_told_without_a_stack_trace(colab: Colab) -> None:
    address = {"https://git.example/team/tunestack.git": tunestack_repository(colab.root / "tunestack.git")}
    notebook = colab.notebook("colab_train", address, {"RUN": "mine", "PRESET": "no-such-preset"})
    with pytest.raises(CellExecutionError) as raised:
        NotebookClient(notebook, timeout=500, kernel_name="python3").execute(cwd=str(colab.content))
    assert "no-such-preset" in printed(notebook)
    assert "the training ended: exit code 2" in str(raised.value)
    assert "Traceback" not in printed(notebook)
    assert "session.py" not in printed(notebook)


TRAIN_PY = """
import argparse, pathlib, time, helper
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
parser.add_argument("--resume")
options = parser.parse_args()
start = int(pathlib.Path(options.resume).read_text()) if options.resume else 0
for epoch in range(start + 1, options.epochs + 1):
    print("epoch", epoch, "of", pathlib.Path("data/words.txt").read_text().strip(), helper.WORDS)
    pathlib.Path("checkpoints", f"epoch-{epoch}.pt").write_text(str(epoch))
    time.sleep(0.3)
"""


def test_wraps_any_repository_and_goes_on_from_its_newest_checkpoint(colab: Colab) -> None:
    theirs = bare_repository(
        colab.root / "vision.git",
        {
            "train.py": TRAIN_PY,
            "helper.py": "WORDS = 'unchanged'",
            "data/words.txt": "ours",
            "requirements.txt": "numpy\n",
        },
    )
    addresses = {
        "https://git.example/team/tunestack.git": tunestack_repository(colab.root / "tunestack.git"),
        "https://git.example/someone/vision.git": theirs,
    }
    drive = colab.drive / "tunestack" / "vision"
    settings = {"RUN": "mine", "COMMAND": "python train.py --epochs 20"}

    with pytest.raises(DeadKernelError):
        colab.execute(colab.notebook("colab_train_other", addresses, settings), drive / "checkpoints" / "epoch-3.pt")
    colab.new_session()
    said = colab.execute(
        colab.notebook("colab_train_other", addresses, {**settings, "COMMAND": "python train.py --epochs 6"})
    )
    epochs = [int(number) for number in re.findall(r"epoch (\d+) of ours unchanged", said)]
    assert epochs == list(range(epochs[0], 7))
    assert epochs[0] >= 4
    assert (drive / "exports" / "mine.pt").read_text() == "6"
    assert git(colab.content / "vision", "diff", "--stat", "--", "*.py") == ""


QUEUE_SCRIPT = """
import json, os, pathlib
pathlib.Path(os.environ["EXPERIMENT_OUTPUT_DIR"], "metrics.json").write_text(json.dumps({"loss": 0.5}))
print("ran", os.environ["EXPERIMENT_NAME"], "with" if "GIT_TOKEN" in os.environ else "without", "a token")
"""


def test_the_daemon_runs_an_experiment_and_pushes_what_came_of_it(colab: Colab) -> None:
    experiments = [
        {"name": "first", "command": "python run.py"},
        {"name": "broken", "command": "exit 3"},
        {"name": "after", "command": "python run.py", "needs": ["first"]},
    ]
    queue = bare_repository(
        colab.root / "vision.git",
        {"run.py": QUEUE_SCRIPT, "requirements.txt": "numpy\n", "experiments.json": json.dumps(experiments)},
    )
    bare = colab.root / "vision.git"
    git(bare, "branch", "--move", "main", "gpu-experiments")
    git(bare, "symbolic-ref", "HEAD", "refs/heads/gpu-experiments")
    addresses = {
        "https://git.example/team/tunestack.git": tunestack_repository(colab.root / "tunestack.git"),
        "https://git.example/someone/vision.git": queue,
    }
    settings = {"NEED_GPU": False, "ONCE": True, "POLL": "1s"}
    said = colab.execute(colab.notebook("colab_gpu_daemon", addresses, settings))
    assert "t0ken-of-git" not in said
    listed = json.loads(git(bare, "show", "gpu-experiments:experiments.json"))
    assert {one["name"]: one["status"] for one in listed} == {
        "first": "completed",
        "broken": "failed",
        "after": "completed",
    }
    log = git(bare, "show", "gpu-experiments:experiment-results/first/execution.log")
    assert "ran first without a token" in log
    outputs = colab.drive / "tunestack" / "vision" / "outputs"
    assert json.loads((outputs / "first" / "metrics.json").read_text()) == {"loss": 0.5}


def test_the_daemon_wants_a_gpu_unless_told_otherwise(colab: Colab) -> None:
    notebook = colab.notebook("colab_gpu_daemon", {}, {"POLL": "1s"})
    with pytest.raises(CellExecutionError, match="this session has no GPU"):
        NotebookClient(notebook, timeout=60, kernel_name="python3").execute(cwd=str(colab.content))
