"""A command in a notebook session: watched, stopped with its kernel, and gone on with after Drive dropped."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from tunestack_train.colab.checkpoints import newest
from tunestack_train.colab.drive import Drive
from tunestack_train.errors import TunestackError

_LOOK_SECONDS: Final = 15.0
# What tunestack's own training needs at most to save a checkpoint.
_GRACE_SECONDS: Final = 120.0
_MOST_RESUMES: Final = 20
_PR_SET_PDEATHSIG: Final = 1


class CommandFailedError(TunestackError):
    """The command ended with another exit code than 0, and not because Drive had dropped."""

    exit_code = 1


def train(
    command: str,
    *,
    folder: Path,
    checkpoints: Path,
    resume: str = "",
    environment: Mapping[str, str] | None = None,
    drive: Drive | None = None,
) -> None:
    """Runs a training command in `folder` to its end, and again from its checkpoint when Drive dropped under it.

    `resume` is added to the command where `checkpoints` holds one, with {checkpoint} for its path: leave it empty for
    code that resumes by itself. Raises CommandFailedError.
    """
    for _ in range(_MOST_RESUMES):
        found = newest(checkpoints)
        whole = (
            command if found is None or not resume else f"{command} {resume.format(checkpoint=shlex.quote(str(found)))}"
        )
        sys.stdout.write(f"$ {whole}\n" if found is None else f"$ {whole}\n(checkpoint: {found})\n")
        code, dropped = _run(shlex.split(whole), folder, environment or {}, drive)
        if code == 0:
            return
        if not dropped:
            meaning = "stopped, checkpoint saved" if code == 75 else f"exit code {code}"
            raise CommandFailedError(
                f"the training ended: {meaning}", "read what it printed last; run this cell again to go on"
            )
        sys.stdout.write("the training ended while Drive was away: going on from its newest checkpoint\n")
    raise CommandFailedError(f"Drive dropped {_MOST_RESUMES} times", "see whether Drive has room; run this cell again")


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str], drive: Drive | None) -> tuple[int, bool]:
    """The exit code, and whether Drive dropped meanwhile. An interrupt of the cell stops the command cleanly."""
    dropped = False
    looked = time.monotonic()
    # Until the child is known an interrupt waits: nobody could stop it otherwise.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = start(command, folder, environment)
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        while child.poll() is None:
            time.sleep(0.2)
            if drive is not None and time.monotonic() - looked >= _LOOK_SECONDS:
                dropped = drive.mend() or dropped
                looked = time.monotonic()
    except KeyboardInterrupt:
        sys.stdout.write("stopping: it may save a checkpoint first\n")
        stop(child)
        raise
    return child.returncode, (drive is not None and drive.mend()) or dropped


def start(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A child whose output goes to the cell as it comes, and which is asked to stop when the kernel goes."""
    child = subprocess.Popen(  # noqa: S603 - what the notebook's settings say
        list(command),
        cwd=folder,
        env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_as_child,  # noqa: PLW1509 - two plain calls of the C library; no lock is taken
    )
    if child.stdout is None:
        raise AssertionError("the output is a pipe")
    threading.Thread(target=_show, args=(child.stdout,), daemon=True).start()
    return child


def stop(child: subprocess.Popen[str], grace: float = _GRACE_SECONDS) -> None:
    """Asks the child and all that it started to stop; after `grace` seconds they are killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(grace)
            return
        except ProcessLookupError:
            child.wait()
            return
        except subprocess.TimeoutExpired:
            continue


def _show(output: IO[str]) -> None:
    for line in output:
        sys.stdout.write(line)


def _as_child() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
