"""Runs that are gone on with under changed settings, and runs that are repeated from what they left."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Workplace, conversations, write_jsonl
from tunestack_train.cli import main
from tunestack_train.errors import SettingsError
from tunestack_train.presets import Value
from tunestack_train.run import Finished

SHORT: dict[str, Value] = {"max_steps": 6, "save_steps": 2, "lora_r": 4}


@pytest.fixture(scope="module")
def original(workplace: Workplace) -> Finished:
    return workplace.run_here("original", **SHORT)[0]


def weights(adapter: Path) -> bytes:
    return (adapter / "adapter_model.safetensors").read_bytes()


def checkpoints(adapter: Path) -> list[str]:
    return sorted(path.name for path in adapter.parent.glob("checkpoint-*"))


def cut_off(workplace: Workplace, adapter: Path, name: str) -> Path:
    """The folder of the run as it was after its fourth step, under another name."""
    folder = workplace.folders.checkpoints / name
    shutil.copytree(adapter.parent, folder, ignore=shutil.ignore_patterns("adapter", "checkpoint-6", ".lock"))
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["config"]["name"] = name
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def test_a_resumed_run_may_save_and_log_otherwise_and_ends_the_same(workplace: Workplace, original: Finished) -> None:
    cut_off(workplace, original.adapter, "saving-otherwise")
    changed: dict[str, Value] = {"save_steps": 1, "save_total_limit": 2, "logging_steps": 2, "wandb_project": "other"}
    finished, said = workplace.run_here("saving-otherwise", **{**SHORT, **changed})
    assert "going on after step 4" in said
    assert checkpoints(finished.adapter) == ["checkpoint-5", "checkpoint-6"]
    assert weights(finished.adapter) == weights(original.adapter)
    record = json.loads((finished.adapter / "run.json").read_text(encoding="utf-8"))
    assert record["config"]["save_steps"] == 1


def test_a_resumed_run_may_not_train_otherwise(workplace: Workplace, original: Finished) -> None:
    cut_off(workplace, original.adapter, "training-otherwise")
    with pytest.raises(SettingsError, match=r"lora_alpha was 32, now 8") as caught:
        workplace.run_here("training-otherwise", **{**SHORT, "lora_alpha": 8, "save_steps": 1})
    assert "save_steps" not in caught.value.message


def test_a_setting_that_came_with_a_later_version_is_no_other_setting(workplace: Workplace, original: Finished) -> None:
    folder = cut_off(workplace, original.adapter, "from-an-older-version")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    del record["config"]["weight_decay"]
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"weight_decay was 0\.0, now 0\.1"):
        workplace.run_here("from-an-older-version", **{**SHORT, "weight_decay": 0.1})
    finished, _ = workplace.run_here("from-an-older-version", **SHORT)
    assert weights(finished.adapter) == weights(original.adapter)


@pytest.fixture
def elsewhere(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command in this process works in the folders of the workplace."""
    for name, value in workplace.environment().items():
        if name.startswith("TUNESTACK_") or name == "HF_HOME":
            monkeypatch.setenv(name, value)


def rerun(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["rerun", *arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


@pytest.mark.parametrize("part", [".", "checkpoint-4", "adapter"])
def test_a_run_is_repeated_bit_for_bit_from_any_of_its_folders(
    part: str,
    workplace: Workplace,
    original: Finished,
    elsewhere: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From a copy of the folder alone, with the data somewhere else, whatever the environment sets."""
    copied = shutil.copytree(original.adapter.parent / part, tmp_path / "copied")
    moved = shutil.copyfile(workplace.data, tmp_path / "moved.jsonl")
    monkeypatch.setenv("TUNESTACK_SET_LORA_R", "2")
    name = f"again-{part.strip('.')}".rstrip("-")
    code, out, _ = rerun(str(copied), f"--name={name}", f"--data={moved}", "--set=save_steps=3", capsys=capsys)
    assert code == 0
    adapter = workplace.folders.checkpoints / name / "adapter"
    assert weights(adapter) == weights(original.adapter)
    assert "the software and the device are those of the run" in out
    assert ("the adapter is that of" in out) == (part != "checkpoint-4")
    assert checkpoints(adapter) == ["checkpoint-3", "checkpoint-6"]


def changed_copy(original: Finished, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    copied = shutil.copytree(original.adapter, folder)
    record = json.loads((copied / "run.json").read_text(encoding="utf-8"))
    change(record)
    (copied / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return copied


def test_what_is_not_as_it_was_is_said_plainly(
    original: Finished,
    elsewhere: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def change(record: dict[str, Any]) -> None:
        record["versions"]["torch"] = "1.0"
        record["git_commit"] = "abc"
        del record["config"]["weight_decay"]

    monkeypatch.setenv("TUNESTACK_GIT_COMMIT", "def")
    monkeypatch.setenv("TUNESTACK_IMAGE_DIGEST", "sha256:123")
    copied = changed_copy(original, tmp_path / "copied", change)
    code, out, _ = rerun(str(copied), "--dry-run", capsys=capsys)
    assert code == 0
    for line in (
        "torch was 1.0, now 2.7.1",
        "git commit was abc, now def",
        "image was not noted, now sha256:123",
        "weight_decay was no setting then, now 0.0",
    ):
        assert f"note: not as it was: {line}\n" in out
    assert "the adapter may differ in its last bits" in out
    assert "transformers was" not in out
    assert "original-rerun" in out


def test_other_data_and_settings_of_the_result_are_refused(
    original: Finished, elsewhere: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_jsonl(tmp_path / "other.jsonl", conversations(61))
    code, _, err = rerun(str(original.adapter), f"--data={other}", capsys=capsys)
    assert code == 3
    assert f"{other} is not the data of the run: its sha256 is" in err
    code, _, err = rerun(str(original.adapter), "--set=lora_r=8", "--set=save_steps", capsys=capsys)
    assert code == 2
    assert "lora_r = '8'\n    changes the result, so this would be no repetition" in err
    assert "has no `=`" in err


def test_a_folder_without_a_record_is_named(
    tmp_path: Path, elsewhere: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, expected in (
        (tmp_path / "none", f"there is no folder {tmp_path}/none"),
        (tmp_path, f"{tmp_path} holds no run.json"),
    ):
        code, _, err = rerun(str(folder), capsys=capsys)
        assert code == 2
        assert expected in err
    (tmp_path / "run.json").write_text('{"config": [', encoding="utf-8")
    code, _, err = rerun(str(tmp_path), capsys=capsys)
    assert code == 2
    assert "run.json cannot be read: JSONDecodeError" in err


def test_a_template_that_is_gone_comes_from_the_record(
    workplace: Workplace, elsewhere: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}", encoding="utf-8")
    first, _ = workplace.run_here("templated", **{**SHORT, "max_steps": 1, "chat_template": str(template)})
    template.unlink()
    code, _, _ = rerun(str(first.adapter.parent), capsys=capsys)
    assert code == 0
    again = workplace.folders.checkpoints / "templated-rerun" / "adapter"
    assert weights(again) == weights(first.adapter)
    assert (again / "chat_template.jinja").read_bytes() == (first.adapter / "chat_template.jinja").read_bytes()


def test_a_template_with_another_text_is_no_way_to_go_on(workplace: Workplace, tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}", encoding="utf-8")
    settings: dict[str, Value] = {**SHORT, "max_steps": 2, "save_steps": 1, "chat_template": str(template)}
    finished, _ = workplace.run_here("another-text", **settings)
    for name in ("adapter", "checkpoint-2"):
        shutil.rmtree(finished.adapter.parent / name)
    template.write_text("{% for m in messages %}{{ m.content }}!\n{% endfor %}", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"the chat template .* is another text than it was"):
        workplace.run_here("another-text", **settings)


def test_a_model_that_was_exchanged_is_no_way_to_repeat_a_run(
    workplace: Workplace, original: Finished, elsewhere: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(original.adapter.parent / "model", tmp_path / "model")
    first, _ = workplace.run_here("own-model", **{**SHORT, "max_steps": 1, "model": str(model)})
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "sliding_window": 128}), encoding="utf-8")
    code, _, err = rerun(str(first.adapter), capsys=capsys)
    assert code == 5
    assert f"{model} is not the model of the run" in err
