"""What a person is told when something is wrong: never a stack trace, always what to do, an exit code for the cause."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import SOURCES, conversations, write_jsonl
from tunestack_train.cli import main
from tunestack_train.manifest import write_manifest


@pytest.fixture(autouse=True)
def surroundings(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Folders of this test alone, no secrets of whoever runs it, and signal handlers put back."""
    for name in ("HF_TOKEN", "WANDB_API_KEY", *(name for name in os.environ if name.startswith("TUNESTACK_SET_"))):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TUNESTACK_CHECKPOINTS_DIR", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
    monkeypatch.setenv("TUNESTACK_LOGS_DIR", str(tmp_path / "logs"))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "questions.jsonl", conversations(5))


def command(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["run", "--name=my-run", *arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def status(tmp_path: Path) -> dict[str, object]:
    content = json.loads((tmp_path / "logs" / "my-run" / "status.json").read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_all_problems_of_the_settings_come_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = command("--preset=gemma-2c", "--set=lora_rank=8", "--set=max_steps=x", capsys=capsys)
    assert (code, out) == (2, "")
    assert err.startswith("tunestack-train: 4 problems in the settings\n  preset = gemma-2c\n    is not a preset\n")
    assert "  max_steps = 'x'\n    is not a whole number" in err
    assert "  data = not set" in err


def test_problems_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command("--preset=rehearsal", "--set=seed=-1", "--json", capsys=capsys)
    assert code == 2
    assert [(problem["path"], sorted(problem)) for problem in json.loads(out)["problems"]] == [
        ("seed", ["path", "reason", "remedy", "value"]),
        ("data", ["path", "reason", "remedy", "value"]),
    ]


@pytest.mark.parametrize("mode", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_missing_data(mode: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = command("--preset=rehearsal", f"--data={tmp_path}/none.jsonl", *mode, capsys=capsys)
    assert code == 3
    assert err.startswith(f"tunestack-train: data error: there is no file or folder {tmp_path}/none.jsonl\n  give a ")


def test_a_broken_row_is_named_and_the_status_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "b.jsonl"
    broken.write_text('{"text": "x"}\n{"text": 1}\n', encoding="utf-8")
    code, _, err = command("--preset=rehearsal", f"--data={broken}", capsys=capsys)
    assert code == 3
    assert "  b.jsonl:2: text is not text but 1\n" in err
    told = status(tmp_path)
    assert (told["state"], told["exit_code"]) == ("failed", 3)
    assert "b.jsonl:2" in str(told["error"])


def test_gemma_without_a_token_ends_before_anything_is_loaded(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tunestack_train.model.cached_model", lambda model, revision: None)
    for mode in ([], ["--dry-run"]):
        code, _, err = command("--preset=gemma-2b", f"--data={data}", *mode, capsys=capsys)
        assert code == 5
        assert "google/gemma-2-2b is gated" in err
        assert "https://huggingface.co/google/gemma-2-2b" in err
    assert status(tmp_path)["exit_code"] == 5


def test_a_dry_run_shows_every_setting_with_its_source_and_makes_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = command("--preset=rehearsal", f"--data={data}", "--set=lora_r=8", "--dry-run", capsys=capsys)
    assert code == 0
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in out.splitlines() if line.split()}
    assert rows["lora_r"] == ["8", "--set"]
    assert rows["max_steps"] == ["30", "preset rehearsal"]
    assert "data: 5 rows of chat in questions.jsonl" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["questions.jsonl"]


def test_files_environment_options_and_set_are_applied_in_this_order(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each place sets what the next one overrides, and one thing more that stays."""
    first, second = tmp_path / "first.yaml", tmp_path / "second.toml"
    first.write_text("preset: rehearsal\nlora_r: 1\nsave_steps: 7\nmodel: from/first\n", encoding="utf-8")
    second.write_text('lora_r = 2\nmodel = "from/second"\nlora_alpha = 2\n', encoding="utf-8")
    for key, value in {"LORA_R": "3", "MODEL": "from/environment", "SEED": "3"}.items():
        monkeypatch.setenv(f"TUNESTACK_SET_{key}", value)
    places = [f"--config={first}", f"--config={second}", f"--data={data}", "--model=rehearsal", "--set=lora_r=4"]
    code, out, _ = command(*places, "--dry-run", "--json", capsys=capsys)
    report = json.loads(out)
    told = {key: (report["config"][key], report["sources"][key]) for key in report["config"]}
    assert code == 0
    assert told["preset"] == ("rehearsal", f"{first}:1")
    assert told["save_steps"] == (7, f"{first}:3")
    assert told["lora_alpha"] == (2, str(second))
    assert told["seed"] == (3, "TUNESTACK_SET_SEED")
    assert told["model"] == ("rehearsal", "command line")
    assert told["lora_r"] == (4, "--set")
    assert told["max_steps"] == (30, "preset rehearsal")
    assert told["optim"] == ("adamw_8bit", "default")


def test_a_dry_run_as_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command("--preset=rehearsal", f"--data={data}", "--dry-run", "--json", capsys=capsys)
    report = json.loads(out)
    assert (code, report["config"]["seed"], report["sources"]["seed"]) == (0, 42, "default")
    assert (report["data"]["format"], report["data"]["rows"], report["model"]) == ("chat", 5, "made on the spot")


def test_folders_that_cannot_be_written_are_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tunestack_train.run_folder.os.access", lambda path, mode: False)
    code, _, err = command("--preset=rehearsal", f"--data={data}", capsys=capsys)
    assert code == 2
    assert f"{tmp_path}/checkpoints/my-run cannot be written by user" in err


def test_a_full_disk_has_its_own_exit_code(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill_the_disk(*_: object) -> None:
        with Path("/dev/full").open("wb") as full:
            full.write(b"weights")

    monkeypatch.setattr("tunestack_train.rehearsal.make_model", fill_the_disk)
    code, _, err = command("--preset=rehearsal", f"--data={data}", capsys=capsys)
    assert code == 6
    assert "the disk is full" in err
    assert status(tmp_path)["state"] == "failed"


def test_a_defect_shows_its_trace_and_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr("tunestack_train.rehearsal.make_model", fail)
    assert main(["run", "--name=my-run", "--preset=rehearsal", f"--data={data}"]) == 1
    assert "this is a defect of tunestack" in capsys.readouterr().err
    assert status(tmp_path)["exit_code"] == 1


def test_out_of_memory_names_the_settings_to_change(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill_the_memory(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:115] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr("tunestack_train.rehearsal.make_model", fill_the_memory)
    code, _, err = command("--preset=rehearsal", f"--data={data}", capsys=capsys)
    assert code == 4
    assert "--set per_device_train_batch_size=1 --set gradient_accumulation_steps=4" in err
    assert "--set max_length=128" in err


def test_a_run_that_another_process_trains_is_left_alone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    folder = tmp_path / "checkpoints" / "my-run"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = command("--preset=rehearsal", f"--data={data}", capsys=capsys)
    assert code == 2
    assert "is being trained by another process" in err
    assert not (tmp_path / "logs" / "my-run" / "status.json").exists()


def test_a_torn_run_file_is_no_reason_to_stop_a_finished_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "checkpoints" / "my-run" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    write_manifest(adapter)
    (adapter.parent / "run.json").write_text('{"config": {', encoding="utf-8")
    code, out, _ = command("--preset=rehearsal", f"--data={data}", capsys=capsys)
    assert code == 0
    assert "my-run was finished before, nothing to do" in out


def test_a_stop_while_preparing_ends_at_once(tmp_path: Path, data: Path) -> None:
    slowly = (
        "import sys, time, tunestack_train.run as run\n"
        "from tunestack_train.cli import main\n"
        "run.load = lambda *_, **__: time.sleep(60)\n"
        f"sys.exit(main(['run', '--name=my-run', '--preset=rehearsal', '--data={data}']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", slowly],
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
        stderr=subprocess.PIPE,
        text=True,
    )
    started = tmp_path / "logs" / "my-run" / "status.json"
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 75
    assert "stopped on request (SIGTERM) before the first step" in err
    assert "Traceback" not in err
    assert status(tmp_path)["state"] == "stopped"


def test_the_command_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tunestack_train", "run", "--help"],
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "per_device_train_batch_size  sequences in one forward pass on each device" in done.stdout
    assert "75 stopped on request" in done.stdout


def test_what_needs_no_training_imports_no_torch() -> None:
    modules = ["cli", "settings", "manifest", "errors", "events", "checkpoints", "data.load", "run", "logs", "status"]
    code = (
        f"import sys; {'; '.join(f'import tunestack_train.{name}' for name in modules)}; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
