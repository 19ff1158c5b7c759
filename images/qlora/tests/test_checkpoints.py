"""Folders that are whole or not there: manifests, resuming, retention, damage and full disks."""

import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunestack_train.checkpoint_writer import CheckpointWriter
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


def _count_operations(run: Path, step: int) -> None:
    """Kills this process at the file system operation number `step` of a save that replaces and one that removes."""
    left = step

    def counted(operation: Callable[..., object]) -> Callable[..., object]:
        def count_and_do(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(9)
            return operation(*args, **kwargs)

        return count_and_do

    for place, name in ((os, "rename"), (os, "mkdir"), (os, "unlink"), (os, "rmdir"), (os, "fsync"), (os, "open")):
        setattr(place, name, counted(getattr(place, name)))
    checkpoint(run, 3, b"again")
    checkpoint(run, 4)
    remove_old(run, 2)


def _after(body: Callable[[], None]) -> int:
    """The exit code of a forked process that does `body`."""
    process = os.fork()
    if process == 0:
        try:
            body()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_whenever_the_writer_is_killed_the_newest_that_was_durable_is_still_there(tmp_path: Path) -> None:
    """At every file system operation in turn: writing aside, flushing, both renames, and removing old ones."""
    killed = 0
    for operation in range(1, 1000):
        run = tmp_path / str(operation)
        for step in (1, 2, 3):
            checkpoint(run, step)
        code = _after(lambda run=run, operation=operation: _count_operations(run, operation))  # type: ignore[misc]
        resume = find_resume_point(run)
        assert resume.notes == ()
        assert resume.checkpoint in (run / "checkpoint-3", run / "checkpoint-4")
        assert not any(name.startswith(".") for name in names(run))
        if code == 0:
            assert names(run) == ["checkpoint-3", "checkpoint-4"]
            break
        killed += 1
    # Fewer would mean that the operations counted are no longer those that are made.
    assert killed > 30


def test_a_writer_killed_at_random_moments_never_costs_a_durable_checkpoint(tmp_path: Path) -> None:
    chance = random.Random(3)
    for _ in range(25):
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            for step in itertools.count(_next_step(tmp_path)):
                checkpoint(tmp_path, step, bytes(20_000))
                os.write(writing, f"{step}\n".encode())
                remove_old(tmp_path, 2)
        os.close(writing)
        time.sleep(chance.uniform(0.005, 0.05))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        with os.fdopen(reading) as told:
            durable = [int(line) for line in told]
        resume = find_resume_point(tmp_path)
        assert resume.notes == ()
        if durable:
            assert resume.checkpoint is not None
            assert int(resume.checkpoint.name.partition("-")[2]) >= durable[-1]


def _next_step(run: Path) -> int:
    newest = newest_complete(run)
    return int(newest.name.partition("-")[2]) + 1 if newest else 1


def test_the_third_is_taken_when_the_two_newest_are_damaged(tmp_path: Path) -> None:
    for step in (7, 8, 9):
        checkpoint(tmp_path, step)
    tear(tmp_path / "checkpoint-9")
    lose_manifest(tmp_path / "checkpoint-8")
    resume = find_resume_point(tmp_path)
    assert resume.checkpoint == tmp_path / "checkpoint-7"
    assert [note.partition(" is damaged")[0] for note in resume.notes] == ["checkpoint-9", "checkpoint-8"]


def test_damaged_ones_do_not_count_as_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        checkpoint(tmp_path, step)
    for step in (2, 3):
        flip(tmp_path / f"checkpoint-{step}")
    assert remove_old(tmp_path, 2) == []
    flip(tmp_path / "checkpoint-4")
    assert find_resume_point(tmp_path).checkpoint == tmp_path / "checkpoint-1"


def _save_weights(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"weights": torch.zeros(500_000)}, folder / "adapter_model.safetensors")


def _save_optimizer(folder: Path) -> None:
    import torch

    torch.save({"state": torch.zeros(500_000)}, folder / "optimizer.pt")


_WRITE_INTO = """
import resource, sys
from pathlib import Path
sys.path[:0] = [{sources!r}, {tests!r}]
import test_checkpoints as tests
from tunestack_train.errors import DiskFullError
run = Path({run!r})
tests.checkpoint(run, 1)
if {limit}:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    tests.write_folder(run / "checkpoint-2", tests.{fill})
except DiskFullError as error:
    print(error.message)
assert tests.find_resume_point(run).checkpoint == run / "checkpoint-1"
assert tests.names(run) == ["checkpoint-1"], tests.names(run)
"""


def _write_into(run: Path, fill: str, limit: int, *before: str) -> "subprocess.CompletedProcess[str]":
    here = Path(__file__).parent
    program = _WRITE_INTO.format(
        sources=str(here.parent / "src"), tests=str(here), run=str(run), fill=fill, limit=limit
    )
    return subprocess.run([*before, sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("fill", ["_save_weights", "_save_optimizer"])
def test_a_limit_of_file_sizes_is_named_and_costs_no_checkpoint(tmp_path: Path, fill: str) -> None:
    done = _write_into(tmp_path, fill, 1 << 20)
    assert done.returncode == 0, done.stderr
    assert "checkpoint-2 could not be written" in done.stdout


@pytest.mark.parametrize("fill", ["_save_weights", "_save_optimizer"])
def test_a_file_system_that_is_full_is_named_and_costs_no_checkpoint(tmp_path: Path, fill: str) -> None:
    # A name space of our own lets an ordinary user mount a small file system in memory.
    mounted = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=1m none {tmp_path} && "$@"',
    ]
    probe = subprocess.run([*mounted, "sh", "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(
            f"no small file system can be mounted here ({probe.stderr.strip()}); as root, or where the kernel lets "
            "users make name spaces, this runs"
        )
    done = _write_into(tmp_path, fill, 0, *mounted, "sh")
    assert done.returncode == 0, done.stderr
    assert "the disk is full: " in done.stdout
    assert "checkpoint-2 could not be written" in done.stdout


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EROFS, "the disk became read-only"),
        (errno.EIO, "the disk is failing"),
        (errno.EFBIG, "the disk takes no file of this size"),
        (errno.EDQUOT, "the disk is full"),
    ],
)
def test_what_a_disk_refuses_is_told_apart(tmp_path: Path, number: int, said: str) -> None:
    def refused(_: Path) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(DiskFullError, match=said):
        write_folder(tmp_path / "checkpoint-1", refused)


def test_a_writer_in_the_background_writes_one_at_a_time_and_keeps_what_went_wrong(tmp_path: Path) -> None:
    saved: list[str] = []
    writer = CheckpointWriter(tmp_path, 2, lambda path: saved.append(path.name), background=True)
    active = 0

    def fill(folder: Path) -> None:
        nonlocal active
        active += 1
        assert active == 1
        time.sleep(0.02)
        (folder / "weights").write_bytes(b"w")
        active -= 1

    began = time.monotonic()
    writer.write(1, fill)
    assert time.monotonic() - began < 0.02
    for step in (2, 3):
        writer.write(step, fill)
    writer.write(3, lambda folder: pytest.fail(f"{folder} is written twice"))
    writer.wait()
    assert saved == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-3"]

    writer.write(4, over_quota)
    writer.finish()
    assert writer.failed
    writer.write(5, fill)
    with pytest.raises(DiskFullError, match="checkpoint-4 could not be written"):
        writer.wait()
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-3"]
