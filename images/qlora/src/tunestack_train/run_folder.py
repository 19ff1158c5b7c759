"""A run's folder: who may work on it, what a disk refuses there, and what lies in it beside the weights."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tunestack_train import checkpoints
from tunestack_train.errors import SettingsError
from tunestack_train.manifest import make_folder
from tunestack_train.presets import REHEARSAL_MODEL
from tunestack_train.record import RUN_FILE
from tunestack_train.settings import RunConfig


def make_writable(folder: Path) -> None:
    """Makes the folder. Raises SettingsError or DiskFullError when nothing can be written into it."""
    try:
        make_folder(folder)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        if error.errno == errno.EROFS:
            raise checkpoints.disk_full(folder, errno.EROFS) from error
        if not isinstance(error, PermissionError):
            raise
        writable = False
    if not writable:
        raise SettingsError(
            f"{folder} cannot be written by user {os.getuid()}",
            "give the folder to that user, and mount it for writing; in Docker, the volumes' content belongs to "
            "1000:1000",
        )


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One process at a time may work on a run; the lock ends with the process, however that ends."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"the run {folder.name} is being trained by another process",
                "follow that one (train-logs), stop it (train-stop), or give this run another name",
            ) from None
        yield


@contextlib.contextmanager
def disk_full_named(folder: Path) -> Iterator[None]:
    """Raises DiskFullError for what the system raises when the disk below `folder` refuses a write."""
    try:
        yield
    except OSError as error:
        refused = checkpoints.disk_error(error, folder)
        if refused is None:
            raise
        raise checkpoints.disk_full(Path(error.filename or folder), refused) from error


def is_last(checkpoint: Path) -> bool:
    """Whether a complete checkpoint is the one at the end of its run."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return int(state["global_step"]) >= int(state["max_steps"])


def add_inputs(checkpoint: Path, run_folder: Path, config: RunConfig) -> None:
    """What a run can be repeated from, and the model's id in place of its folder in this machine's cache."""
    shutil.copyfile(run_folder / RUN_FILE, checkpoint / RUN_FILE)
    if config.model == REHEARSAL_MODEL:
        return
    path = checkpoint / "adapter_config.json"
    adapter = json.loads(path.read_text(encoding="utf-8"))
    adapter["base_model_name_or_path"] = config.model
    adapter["revision"] = config.model_revision
    path.write_text(json.dumps(adapter, indent=2) + "\n", encoding="utf-8")
