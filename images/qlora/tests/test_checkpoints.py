"""Folders that are whole or not there: manifests, resuming, retention, damage and full disks."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunestack_train.checkpoints import (
    find_resume_point,
    remove_old,
    write_folder,
)
from tunestack_train.errors import DiskFullError
from tunestack_train.manifest import newest_complete, problems, write_manifest


def checkpoint(run: Path, step: int, content: bytes = b"weights") -> Path:
    def fill(folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "weights.bin").write_bytes(content)
        (folder / "state.json").write_text(json.dumps({"step": step}), encoding="utf-8")

    return write_folder(run / f"checkpoint-{step}", fill)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


def tear(folder: Path) -> None:
    (folder / "state.json").write_bytes((folder / "state.json").read_bytes()[:-1])


def flip(folder: Path) -> None:
    content = bytearray((folder / "sub" / "weights.bin").read_bytes())
    content[0] ^= 1
    (folder / "sub" / "weights.bin").write_bytes(content)


def lose(folder: Path) -> None:
    (folder / "sub" / "weights.bin").unlink()


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def tear_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"schema": 1, "fil', encoding="utf-8")


def test_a_manifest_lists_every_file_with_size_and_hash(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1, b"abc")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["schema"] == 1
    assert set(manifest["files"]) == {"sub/weights.bin", "state.json"}
    assert manifest["files"]["sub/weights.bin"] == {
        "size": 3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    }
    assert problems(folder) == []


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (tear, "state.json has 11 bytes where the manifest says 12"),
        (flip, "sub/weights.bin differs from what was written"),
        (lose, "sub/weights.bin is missing"),
        (lose_manifest, "manifest.json is missing"),
        (tear_manifest, "manifest.json cannot be read"),
    ],
)
def test_damage_is_named_and_the_checkpoint_set_aside(
    tmp_path: Path, damage: Callable[[Path], None], named: str
) -> None:
    good, bad = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    damage(bad)
    assert any(problem.startswith(named) for problem in problems(bad))
    assert newest_complete(tmp_path) == good
    resume = find_resume_point(tmp_path)
    assert resume.checkpoint == good
    (note,) = resume.notes
    assert note.startswith("checkpoint-10 is damaged")
    assert named in note
    assert note.endswith("set aside as checkpoint-10.damaged")
    assert names(tmp_path) == ["checkpoint-10.damaged", "checkpoint-9"]


def test_a_second_damaged_checkpoint_of_a_step_is_kept_too(tmp_path: Path) -> None:
    for _ in range(2):
        tear(checkpoint(tmp_path, 5))
        assert find_resume_point(tmp_path).checkpoint is None
    assert names(tmp_path) == ["checkpoint-5.damaged", "checkpoint-5.damaged-2"]


def test_steps_are_compared_as_numbers(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-1000x").mkdir()
    assert newest_complete(tmp_path) == tmp_path / "checkpoint-100"
    assert newest_complete(tmp_path / "nothing here") is None


def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1)
    (tmp_path / "other").write_bytes(b"")
    entry = {"size": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "files": {"../other": entry}}), encoding="utf-8")
    assert "outside the folder" in problems(folder)[0]


def test_whatever_a_killed_writer_leaves_the_run_goes_on_from_a_whole_checkpoint(tmp_path: Path) -> None:
    good = checkpoint(tmp_path, 1)
    partial = tmp_path / ".checkpoint-2.partial"
    partial.mkdir()
    (partial / "weights.bin").write_bytes(b"half")
    shutil.copytree(good, tmp_path / ".checkpoint-3.removing")
    assert newest_complete(tmp_path) == good
    assert find_resume_point(tmp_path).checkpoint == good
    assert names(tmp_path) == ["checkpoint-1"]


def test_a_writer_killed_between_its_two_renames_loses_nothing(tmp_path: Path) -> None:
    old = checkpoint(tmp_path, 1, b"old")
    old.rename(tmp_path / ".checkpoint-1.replaced")
    shutil.copytree(tmp_path / ".checkpoint-1.replaced", tmp_path / ".checkpoint-1.partial")
    assert find_resume_point(tmp_path).checkpoint == old
    assert (old / "sub" / "weights.bin").read_bytes() == b"old"


def test_an_existing_folder_is_replaced_whole(tmp_path: Path) -> None:
    checkpoint(tmp_path, 1, b"old")
    folder = checkpoint(tmp_path, 1, b"new")
    assert (folder / "sub" / "weights.bin").read_bytes() == b"new"
    assert (problems(folder), names(tmp_path)) == ([], ["checkpoint-1"])


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1, b"old")

    def fail(partial: Path) -> None:
        (partial / "half").write_bytes(b"half")
        raise ValueError("cannot go on")

    with pytest.raises(ValueError, match="cannot go on"):
        write_folder(folder, fail)
    assert (problems(folder), names(tmp_path)) == ([], ["checkpoint-1"])


def write_to_full_disk_by_python(_: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        full.write(b"weights")


def write_to_full_disk_by_torch(_: Path) -> None:
    import torch

    torch.save({"weights": torch.zeros(100_000)}, "/dev/full")


def over_quota(_: Path) -> None:
    raise OSError(errno.EDQUOT, "Disk quota exceeded")


def write_to_full_disk_by_safetensors(_: Path) -> None:
    # What it raised on a file system without space; it writes through a new file, so /dev/full cannot stand in.
    from safetensors import SafetensorError

    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    "fill",
    [
        write_to_full_disk_by_python,
        write_to_full_disk_by_torch,
        write_to_full_disk_by_safetensors,
        over_quota,
    ],
)
def test_a_full_disk_is_named_and_costs_no_checkpoint(tmp_path: Path, fill: Callable[[Path], None]) -> None:
    good = checkpoint(tmp_path, 1)
    with pytest.raises(DiskFullError) as caught:
        write_folder(tmp_path / "checkpoint-2", fill)
    assert caught.value.exit_code == 6
    assert "checkpoint-2 could not be written" in caught.value.message
    assert "make room" in caught.value.remedy
    assert names(tmp_path) == ["checkpoint-1"]
    assert newest_complete(tmp_path) == good


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        checkpoint(tmp_path, step)
    assert [path.name for path in remove_old(tmp_path, 2)] == ["checkpoint-2", "checkpoint-1"]
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-3"]


def test_nothing_is_removed_while_the_newest_is_damaged(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint(tmp_path, step)
    tear(tmp_path / "checkpoint-3")
    assert remove_old(tmp_path, 1) == []
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.integers(1, 500), min_size=1, max_size=6, unique=True),
    limit=st.integers(1, 4),
    damaged=st.sets(st.integers(0, 5)),
)
def test_retention_never_removes_the_last_good_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], limit: int, damaged: set[int]
) -> None:
    run = tmp_path_factory.mktemp("run")
    for index, step in enumerate(sorted(steps)):
        folder = checkpoint(run, step)
        if index in damaged:
            tear(folder)
    best = newest_complete(run)
    remove_old(run, limit)
    assert newest_complete(run) == best
    assert find_resume_point(run).checkpoint == best


def test_files_beside_the_listed_ones_do_no_harm(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 1)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    assert problems(folder) == []
    write_manifest(folder)
    (folder / "notes.txt").unlink()
    assert problems(folder) == ["notes.txt is missing"]
