"""Runs that are gone on with under changed settings, and runs that are repeated from what they left."""

import json
import shutil
from pathlib import Path

import pytest

from conftest import Workplace
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
