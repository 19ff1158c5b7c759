"""What the Colab notebooks do: dependencies, Drive, links, checkpoints, export, secrets, watched commands."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from tunestack_train.colab import checkpoints, dependencies, session
from tunestack_train.colab.daemon import Daemon
from tunestack_train.colab.drive import Drive
from tunestack_train.colab.export import export, offer_download
from tunestack_train.colab.links import link
from tunestack_train.colab.secrets import read_secret, take_secrets
from tunestack_train.errors import SettingsError

STUBS = Path(__file__).parent / "stubs"


@pytest.fixture
def colab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stub of Colab, whose Drive is a folder."""
    import google

    folder = tmp_path / "colab"
    (folder / "drive" / "MyDrive").mkdir(parents=True)
    monkeypatch.setenv("STUB_COLAB", str(folder))
    # Another package owns the namespace `google` as well.
    monkeypatch.setattr(google, "__path__", [*google.__path__, str(STUBS / "google")])
    return folder


def calls(colab: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (colab / "calls.jsonl").read_text().splitlines()]


class TestRequirements:
    def read(self, folder: Path, text: str) -> dependencies.Needs:
        (folder / "requirements.txt").write_text(text)
        return dependencies.read_needs(folder)

    def test_takes_what_pip_takes(self, tmp_path: Path) -> None:
        (tmp_path / "more.txt").write_text("rich>=13  # colours\n-r requirements.txt\n")
        needs = self.read(
            tmp_path,
            "numpy==1.26.4 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
            "\n# a comment\n-r more.txt\n--extra-index-url https://host.example/simple\n-c limits.txt\n"
            "tqdm; python_version < '3'\nrequests[socks]>=2 ; python_version >= '3'\n"
            "git+https://host.example/a.git@v1#egg=a\nb @ https://host.example/b.whl\n-e ./pkg\n./wheels/c.whl\n",
        )
        assert needs.requirements == (
            "numpy==1.26.4",
            "rich>=13",
            "requests[socks]>=2",
            "git+https://host.example/a.git@v1#egg=a",
            "b @ https://host.example/b.whl",
            f"-e {tmp_path / 'pkg'}",
            str(tmp_path / "wheels" / "c.whl"),
        )
        assert needs.options == (
            *("--extra-index-url", "https://host.example/simple"),
            *("--constraint", str(tmp_path / "limits.txt")),
        )

    def test_names_file_and_line_of_what_is_no_requirement(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"requirements\.txt:2: 'numpy = 1' is no requirement"):
            self.read(tmp_path, "torch\nnumpy = 1\n")

    def test_names_a_file_that_is_included_and_missing(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"gone\.txt cannot be read"):
            self.read(tmp_path, "-r gone.txt\n")

    def test_a_repository_that_asks_for_nothing(self, tmp_path: Path) -> None:
        assert dependencies.read_needs(tmp_path).requirements == ()


class TestPyproject:
    def read(self, folder: Path, text: str, *extras: str) -> dependencies.Needs:
        (folder / "pyproject.toml").write_text(text)
        return dependencies.read_needs(folder, extras)

    def test_project_and_extras(self, tmp_path: Path) -> None:
        text = '[project]\nname="x"\ndependencies=["torch>=2"]\n[project.optional-dependencies]\ngpu=["flash==1"]\n'
        assert self.read(tmp_path, text).requirements == ("torch>=2",)
        assert self.read(tmp_path, text, "gpu").requirements == ("torch>=2", "flash==1")
        with pytest.raises(SettingsError, match="no optional dependencies 'cpu'") as raised:
            self.read(tmp_path, text, "cpu")
        assert "it has: gpu" in raised.value.remedy

    def test_an_extra_that_names_another_of_its_own_project(self, tmp_path: Path) -> None:
        text = '[project]\nname="My_x"\n[project.optional-dependencies]\ngpu=["flash==1"]\nall=["my-x[gpu]", "rich"]\n'
        assert self.read(tmp_path, text, "all").requirements == ("flash==1", "rich")

    def test_poetry(self, tmp_path: Path) -> None:
        needs = self.read(
            tmp_path,
            '[tool.poetry.dependencies]\npython="^3.10"\na="^1.2.3"\nb="~1.2"\nc="*"\nd="1.5"\ne=">=1,<2"\n'
            'f={git="https://host.example/f.git", tag="v2"}\ng={version="^0.3", extras=["x"]}\n'
            'h={version="1", optional=true}\n',
        )
        assert needs.requirements == (
            "a>=1.2.3,<2.0.0",
            "b>=1.2,<1.3",
            "c",
            "d==1.5",
            "e>=1,<2",
            "f @ git+https://host.example/f.git@v2",
            "g>=0.3,<0.4",
        )
        assert needs.notes == ("h is optional and left out",)

    @given(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)).filter(any))
    def test_a_caret_takes_its_own_version_and_never_the_next_breaking_one(self, parts: tuple[int, int, int]) -> None:
        version = ".".join(map(str, parts))
        specifier = SpecifierSet(dependencies._poetry_specifier(f"^{version}"))
        assert specifier.contains(version)
        first = next(index for index, part in enumerate(parts) if part)
        breaking = [*parts[:first], parts[first] + 1, *[0] * (2 - first)]
        assert not specifier.contains(".".join(map(str, breaking)))

    def test_tells_broken_toml(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="is not TOML"):
            self.read(tmp_path, "[project\n")


def test_a_conda_environment_in_the_terms_of_pip(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("evaluate\n")
    (tmp_path / "env.yaml").write_text(
        "name: x\nchannels: [pytorch, conda-forge]\ndependencies:\n"
        "  - python=3.10\n  - pytorch::pytorch=2.1\n  - pytorch-cuda=12.1\n  - numpy=1.26.4=py310h1234_0\n"
        "  - pandas>=2,<3\n  - scipy 1.11.*\n  - opencv\n  - libgcc-ng\n  - pip\n"
        "  - pip:\n    - transformers==4.40.0\n    - -r more.txt\n"
    )
    needs = dependencies.read_needs(tmp_path)
    assert needs.requirements == (
        "torch==2.1.*",
        "numpy==1.26.4",
        "pandas>=2,<3",
        "scipy==1.11.*",
        "opencv-python-headless",
        "transformers==4.40.0",
        "evaluate",
    )
    assert [note.partition(":")[0] for note in needs.notes] == ["python=3.10", "pytorch-cuda=12.1", "libgcc-ng", "pip"]


@pytest.mark.parametrize("text", ["dependencies: torch\n", "- a\n", ""])
def test_a_conda_file_without_a_list_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "environment.yml").write_text(text)
    with pytest.raises(SettingsError, match="has no list `dependencies`"):
        dependencies.read_needs(tmp_path)


class TestPlan:
    SESSION: Mapping[str, str] = {"torch": "2.8.0+cu126", "torchvision": "0.23.0+cu126", "numpy": "2.0.2"}

    def plan(self, *requirements: str, keep_torch: bool = False) -> dependencies.Plan:
        return dependencies.plan_installation(requirements, self.SESSION.get, keep_torch=keep_torch)

    def test_keeps_pytorch_where_it_fits_and_holds_it_there(self) -> None:
        plan = self.plan("torch>=2.4", "torch==2.8.0", "numpy", "peft")
        assert plan.install == ("peft",)
        assert plan.kept == ("torch 2.8.0+cu126", "torch 2.8.0+cu126", "numpy 2.0.2")
        assert plan.constraints == ("torch==2.8.0+cu126", "torchvision==0.23.0+cu126")

    def test_installs_another_where_it_does_not_fit_and_lets_its_companions_follow(self) -> None:
        plan = self.plan("torch==2.7.1", "peft")
        assert plan.install == ("torch==2.7.1", "peft")
        assert plan.constraints == ()

    def test_keeps_pytorch_whatever_is_asked_for_where_that_is_set(self) -> None:
        plan = self.plan("torch==2.7.1", keep_torch=True)
        assert plan.install == ()
        assert plan.kept == ("torch 2.8.0+cu126 (asked for: ==2.7.1)",)
        assert plan.constraints == ("torch==2.8.0+cu126", "torchvision==0.23.0+cu126")

    def test_never_leaves_out_what_is_missing_or_comes_from_an_address(self) -> None:
        wanted = ("numpy<2", "numpy @ https://host.example/n.whl", "git+https://host.example/a.git", "-e /clone")
        assert self.plan(*wanted).install == wanted


def test_installs_by_pip_and_tells_what_pip_says_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = tmp_path / "python"
    fake.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\necho no such package >&2\nexit "$(cat {tmp_path}/code)"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    (tmp_path / "requirements.txt").write_text("packaging\nno-such-package==1\n-e .\n--pre\n")
    (tmp_path / "code").write_text("0")
    dependencies.install(tmp_path)
    assert "2 to install, 1 there already" in capsys.readouterr().out
    arguments = (tmp_path / "arguments").read_text()
    assert "-m pip install" in arguments
    assert arguments.endswith(f"no-such-package==1 -e {tmp_path}\n")
    assert "--pre" in arguments
    (tmp_path / "code").write_text("1")
    with pytest.raises(SettingsError, match=r"requirements\.txt asks for:\nno such package"):
        dependencies.install(tmp_path)


def test_installs_nothing_where_all_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    (tmp_path / "requirements.txt").write_text("packaging>=20\n")
    dependencies.install(tmp_path)


class TestDrive:
    def test_mounts_makes_the_folder_and_mounts_again_when_it_drops(self, colab: Path, tmp_path: Path) -> None:
        point = tmp_path / "mounted"
        drive = Drive(point / "MyDrive" / "work", point)
        drive.mount()
        assert drive.is_there()
        assert drive.folder.is_dir()
        assert not drive.mend()
        point.unlink()
        point.mkdir()
        assert not drive.is_there()
        point.rmdir()
        assert drive.mend()
        assert drive.is_there()
        assert [call["force_remount"] for call in calls(colab)] == [False, True]

    def test_mounts_once(self, colab: Path, tmp_path: Path) -> None:
        drive = Drive(tmp_path / "mounted" / "MyDrive" / "work", tmp_path / "mounted")
        drive.mount()
        drive.mount()
        assert len(calls(colab)) == 1

    def test_a_folder_stands_in_for_drive(self, tmp_path: Path) -> None:
        drive = Drive(tmp_path / "work", None)
        drive.mount()
        drive.flush()
        assert drive.folder.is_dir()
        assert not drive.mend()


class TestLinks:
    def test_links_and_carries_over_what_drive_lacks(self, tmp_path: Path) -> None:
        clone, drive = tmp_path / "clone", tmp_path / "drive"
        (clone / "data" / "deep").mkdir(parents=True)
        (clone / "data" / "deep" / "a.txt").write_text("of the repository")
        (clone / "data" / "b.txt").write_text("of the repository")
        (drive / "data").mkdir(parents=True)
        (drive / "data" / "b.txt").write_text("of Drive")
        for _ in range(2):
            assert len(link(clone, drive, ["data", "weights", "out/checkpoints"])) == 3
        assert (clone / "data" / "deep" / "a.txt").read_text() == "of the repository"
        assert (clone / "data" / "b.txt").read_text() == "of Drive"
        (clone / "out" / "checkpoints" / "c.pt").write_text("saved")
        assert (drive / "out" / "checkpoints" / "c.pt").read_text() == "saved"

    def test_a_link_that_leads_elsewhere_is_renewed(self, tmp_path: Path) -> None:
        (tmp_path / "clone").mkdir()
        (tmp_path / "clone" / "data").symlink_to(tmp_path)
        link(tmp_path / "clone", tmp_path / "drive", ["data"])
        assert (tmp_path / "clone" / "data").readlink() == tmp_path / "drive" / "data"

    @pytest.mark.parametrize("name", ["../data", "/data", ".", "", "a/../../b"])
    def test_refuses_what_leads_out_of_the_clone(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "clone").mkdir()
        with pytest.raises(SettingsError, match="no folder within the clone"):
            link(tmp_path / "clone", tmp_path / "drive", [name])

    def test_refuses_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_text("x")
        with pytest.raises(SettingsError, match="is a file and no folder"):
            link(tmp_path, tmp_path / "drive", ["data"])


def write(path: Path, content: bytes, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)
    return path


def archive(path: Path, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", "x" * 100)
    return write(path, path.read_bytes(), age)


class TestCheckpoints:
    def test_the_newest_that_is_whole(self, tmp_path: Path) -> None:
        older = archive(tmp_path / "step-10.pt", 30)
        write(tmp_path / "step-20.pt", older.read_bytes()[:50], 20)
        write(tmp_path / "step-30.pt", b"", 10)
        write(tmp_path / ".step-40.pt", b"x", 5)
        write(tmp_path / "step-40.pt.tmp", b"x", 4)
        write(tmp_path / "log.txt", b"x", 3)
        assert checkpoints.newest(tmp_path) == older

    def test_a_model_of_safetensors_is_its_folder(self, tmp_path: Path) -> None:
        write(tmp_path / "checkpoint-5" / "model.safetensors", b"x", 10)
        assert checkpoints.newest(tmp_path) == tmp_path / "checkpoint-5"

    def test_none(self, tmp_path: Path) -> None:
        assert checkpoints.newest(tmp_path) is None
        assert checkpoints.best(tmp_path / "gone") is None

    def test_the_best_is_what_training_says_wherever_it_ran(self, tmp_path: Path) -> None:
        for step in (5, 10):
            write(tmp_path / f"checkpoint-{step}" / "model.safetensors", b"x", 100 - step)
        state = {"best_model_checkpoint": "/another/session/checkpoint-5"}
        write(tmp_path / "checkpoint-10" / "trainer_state.json", json.dumps(state).encode(), 1)
        write(tmp_path / "adapter" / "adapter_model.safetensors", b"x", 0)
        assert checkpoints.best(tmp_path) == tmp_path / "checkpoint-5"

    def test_else_what_is_called_so_else_the_result_else_the_newest(self, tmp_path: Path) -> None:
        newest = write(tmp_path / "last.pt", b"x", 1)
        assert checkpoints.best(tmp_path) == newest
        adapter = write(tmp_path / "run" / "adapter" / "adapter_model.safetensors", b"x", 50).parent
        assert checkpoints.best(tmp_path) == adapter
        best = write(tmp_path / "best_model.pt", b"x", 100)
        assert checkpoints.best(tmp_path) == best


def test_exports_a_folder_as_an_archive_and_a_file_as_it_is(tmp_path: Path, colab: Path) -> None:
    with pytest.raises(SettingsError, match="no model in"):
        export(tmp_path / "checkpoints", tmp_path / "exports", "mine")
    write(tmp_path / "checkpoints" / "run" / "adapter" / "weights.safetensors", b"weights", 1)
    target = export(tmp_path / "checkpoints", tmp_path / "exports", "mine")
    with zipfile.ZipFile(target) as opened:
        assert opened.namelist() == ["mine/weights.safetensors"]
        assert opened.read("mine/weights.safetensors") == b"weights"
    write(tmp_path / "checkpoints" / "best.gguf", b"gguf", 1)
    target = export(tmp_path / "checkpoints", tmp_path / "exports", "mine")
    assert (target.name, target.read_bytes()) == ("mine.gguf", b"gguf")
    offer_download(target)
    assert calls(colab) == [{"call": "files.download", "filename": str(target)}]


def test_secrets_that_are_missing_or_not_allowed_are_told_and_no_failure(
    colab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (colab / "secrets.json").write_text(json.dumps({"A": " token \n", "B": None}))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    assert [read_secret(name) for name in ("A", "B", "C")] == ["token", None, None]
    take_secrets({"MINE": "A", "OTHER": "B"})
    assert os.environ["MINE"] == "token"
    assert "OTHER" not in os.environ
    said = capsys.readouterr().out
    assert "A: there" in said
    assert "B: not set" in said
    assert "token" not in said


def kernel_that_trains(folder: Path, **streams: Any) -> "subprocess.Popen[Any]":
    """A Python that wraps a command, as a notebook does. The command notes in `said` that it was ended well."""
    trap = f"trap 'echo stopped > {folder}/said; exit' TERM; echo $$ > {folder}/pid; while :; do sleep 0.1; done"
    (folder / "train.sh").write_text(trap)
    script = (
        "import pathlib; from tunestack_train.colab import session\n"
        f"session.train('sh {folder}/train.sh', folder=pathlib.Path('/'), checkpoints=pathlib.Path('{folder}'))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent / "src")}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, **streams)


class TestTraining:
    def test_goes_on_from_the_newest_checkpoint(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        command = f"{sys.executable} -c 'import sys; print(sys.argv[1:])'"
        session.train(command, folder=tmp_path, checkpoints=tmp_path, resume="--from {checkpoint}")
        archive(tmp_path / "a b.pt", 1)
        session.train(command, folder=tmp_path, checkpoints=tmp_path, resume="--from {checkpoint}")
        time.sleep(0.2)
        said = capsys.readouterr().out
        assert "\n[]\n" in said
        assert f"['--from', '{tmp_path / 'a b.pt'}']" in said

    @pytest.mark.parametrize(("code", "words"), [(3, "exit code 3"), (75, "checkpoint saved")])
    def test_a_failure_is_told(self, tmp_path: Path, code: int, words: str) -> None:
        with pytest.raises(session.CommandFailedError, match=words):
            session.train(f"sh -c 'exit {code}'", folder=tmp_path, checkpoints=tmp_path)

    def test_goes_on_when_drive_dropped_under_it(
        self, colab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        point = tmp_path / "mounted"
        drive = Drive(point / "MyDrive", point)
        drive.mount()
        script = tmp_path / "train.sh"
        # Drops Drive the first time, and finds it back the second time.
        script.write_text(
            f"test -e {tmp_path}/once && exec ls {point}/MyDrive\ntouch {tmp_path}/once\nrm {point}\nexit 1\n"
        )
        session.train(f"sh {script}", folder=tmp_path, checkpoints=tmp_path / "c", drive=drive)
        assert "Drive dropped" in capsys.readouterr().out
        assert [call["force_remount"] for call in calls(colab)] == [False, True]

    def test_stops_when_the_kernel_goes(self, tmp_path: Path) -> None:
        kernel = kernel_that_trains(tmp_path, stdout=subprocess.DEVNULL)
        wait_for(tmp_path / "pid")
        kernel.send_signal(signal.SIGKILL)
        kernel.wait()
        wait_for(tmp_path / "said")

    def test_an_interrupt_of_the_cell_stops_it_cleanly(self, tmp_path: Path) -> None:
        kernel = kernel_that_trains(tmp_path, stderr=subprocess.PIPE, text=True)
        wait_for(tmp_path / "pid")
        kernel.send_signal(signal.SIGINT)
        _, said = kernel.communicate(timeout=20)
        assert "KeyboardInterrupt" in said
        assert (tmp_path / "said").read_text() == "stopped\n"


class TestDaemon:
    """A stand-in for the runner is a script in place of the module's name; what is tested is who watches it."""

    def daemon(self, tmp_path: Path, script: str) -> Daemon:
        (tmp_path / "runner.sh").write_text(f"echo started >> {tmp_path}/starts\n{script}\n")
        made = Daemon([], Drive(tmp_path / "drive", None))
        made._command = ["sh", str(tmp_path / "runner.sh")]
        return made

    def test_starts_it_again_after_a_crash_and_ends_when_it_is_done(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tunestack_train.colab.daemon._AGAIN_SECONDS", 0.0)
        self.daemon(tmp_path, f"test $(wc -l < {tmp_path}/starts) -ge 2").watch()
        assert (tmp_path / "starts").read_text().count("started") == 2

    @pytest.mark.parametrize(("code", "starts"), [(7, 1), (2, 1), (1, 3)])
    def test_gives_up_where_it_would_end_the_same_way_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, starts: int
    ) -> None:
        monkeypatch.setattr("tunestack_train.colab.daemon._AGAIN_SECONDS", 0.0)
        with pytest.raises(session.CommandFailedError, match=f"exit code {code}"):
            self.daemon(tmp_path, f"exit {code}").watch()
        assert (tmp_path / "starts").read_text().count("started") == starts

    def test_is_started_once(self, tmp_path: Path) -> None:
        daemon = self.daemon(tmp_path, "sleep 0.5")
        daemon.start()
        daemon.start()
        daemon.watch()
        assert (tmp_path / "starts").read_text().count("started") == 1


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 20
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline, f"{file.name} did not come"
        time.sleep(0.05)
