"""A run that another stack sent: taken whole and verified, or not at all."""

from pathlib import Path

import pytest

from tunestack_train.backup.errors import NothingThereError, RepositoryError
from tunestack_train.backup.moving import take
from tunestack_train.backup.settings import Part
from tunestack_train.errors import SettingsError
from tunestack_train.manifest import write_manifest

STAGED = ".move-1"


@pytest.fixture
def folders(tmp_path: Path) -> dict[Part, Path]:
    found: dict[Part, Path] = {"checkpoints": tmp_path / "c", "logs": tmp_path / "l", "gguf": tmp_path / "g"}
    for part, folder in found.items():
        (folder / STAGED / part).mkdir(parents=True)
    return found


def checkpoint(run: Path, step: int, data: str) -> Path:
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_text(data)
    write_manifest(folder)
    return folder


def send(folders: dict[Part, Path], step: int = 20, run: str = "first") -> Path:
    logs = folders["logs"] / STAGED / "logs" / run
    logs.mkdir()
    (logs / "metrics.jsonl").write_text(f"{step}\n")
    return checkpoint(folders["checkpoints"] / STAGED / "checkpoints" / run, step, "sent")


def test_checkpoints_and_logs_come_into_place(folders: dict[Part, Path]) -> None:
    send(folders)
    send(folders, run="another")
    taken = take(folders, STAGED, "first", force=False)
    assert taken.step == 20
    assert taken.verified_manifests == 1
    assert taken.taken == (folders["checkpoints"] / "first", folders["logs"] / "first")
    assert (folders["checkpoints"] / "first/checkpoint-20/adapter_model.safetensors").read_text() == "sent"
    assert (folders["logs"] / "first/metrics.jsonl").read_text() == "20\n"
    assert not (folders["checkpoints"] / "another").exists()


def test_an_older_state_of_the_run_gives_way(folders: dict[Part, Path]) -> None:
    checkpoint(folders["checkpoints"] / "first", 10, "here")
    send(folders)
    assert take(folders, STAGED, "first", force=False).step == 20
    assert [path.name for path in (folders["checkpoints"] / "first").iterdir()] == ["checkpoint-20"]
    # Nothing of the old one is left beside it.
    assert sorted(path.name for path in folders["checkpoints"].iterdir()) == [STAGED, "first"]


def test_a_run_that_has_gone_further_here_stays_unless_forced(folders: dict[Part, Path]) -> None:
    checkpoint(folders["checkpoints"] / "first", 30, "here")
    send(folders)
    with pytest.raises(SettingsError, match="it is at step 30, and what comes is at step 20"):
        take(folders, STAGED, "first", force=False)
    assert (folders["checkpoints"] / "first/checkpoint-30").is_dir()
    assert not (folders["logs"] / "first").exists()
    assert take(folders, STAGED, "first", force=True).step == 20


def test_what_changed_on_the_way_is_not_taken(folders: dict[Part, Path]) -> None:
    (send(folders) / "adapter_model.safetensors").write_text("lost")
    with pytest.raises(RepositoryError, match=r"first/checkpoint-20 did not arrive as it was sent"):
        take(folders, STAGED, "first", force=True)
    assert not (folders["checkpoints"] / "first").exists()
    assert not (folders["logs"] / "first").exists()


def test_nothing_sent_is_told(folders: dict[Part, Path]) -> None:
    with pytest.raises(NothingThereError, match="nothing of the run 'first' was sent"):
        take(folders, STAGED, "first", force=False)
