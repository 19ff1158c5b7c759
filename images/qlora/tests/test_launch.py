"""The launcher of several processes: its exit code is that of the process which is the cause."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import SOURCES
from tunestack_train.launch import cause

LOST, STOPPED = 8, 75


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([2], 2),
        ([LOST, 3], 3),
        ([1, LOST, LOST], 1),
        ([-signal.SIGKILL], 137),
        ([LOST, -signal.SIGKILL], 137),
        ([-signal.SIGABRT], 134),
        ([STOPPED, STOPPED], STOPPED),
        ([STOPPED, 6], 6),
        ([LOST, LOST], LOST),
        ([LOST, STOPPED], LOST),
        ([-signal.SIGTERM], STOPPED),
    ],
)
def test_the_cause_is_who_ended_first_and_not_who_followed(codes: list[int], expected: int) -> None:
    assert cause(codes) == expected
    assert cause(codes[::-1]) == expected


def launch(program: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tunestack_train.launch", "--local-addr=127.0.0.1", *options, str(program)],
        env=os.environ | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1", "LOGLEVEL": "INFO"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


_PROGRAM = """
import os, signal, sys, time
from pathlib import Path
first = os.environ["RANK"] == "0"
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
{body}
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(3)", 3),
        ("sys.exit(2) if first else time.sleep(60)", 2),
        ("os.kill(os.getpid(), 9) if first else time.sleep(60)", 137),
        ("sys.exit(75)", STOPPED),
    ],
)
def test_it_ends_as_its_processes_end(tmp_path: Path, body: str, expected: int) -> None:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM.format(body=body), encoding="utf-8")
    launched = launch(program, "--standalone", "--nproc-per-node=2")
    _, err = launched.communicate(timeout=120)
    assert launched.returncode == expected, err


def test_a_request_to_stop_reaches_its_processes(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    here = "Path(__file__).with_suffix('.' + os.environ['RANK']).touch(); time.sleep(60)"
    program.write_text(_PROGRAM.format(body=here), encoding="utf-8")
    launched = launch(program, "--standalone", "--nproc-per-node=2")
    deadline = time.monotonic() + 120
    while len(list(tmp_path.iterdir())) < 3:
        assert launched.poll() is None, launched.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    launched.send_signal(signal.SIGTERM)
    _, err = launched.communicate(timeout=60)
    assert launched.returncode == STOPPED, err


def test_a_machine_that_waits_for_others_can_be_stopped(tmp_path: Path) -> None:
    launched = launch(tmp_path / "none.py", "--nnodes=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0")
    assert launched.stderr is not None
    while "Rendezvous'ing" not in (line := launched.stderr.readline()):
        assert line != "", launched.communicate()
    launched.send_signal(signal.SIGTERM)
    _, err = launched.communicate(timeout=60)
    assert launched.returncode == STOPPED, err


def test_a_machine_that_finds_no_other_has_lost_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        alone = ["--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}"]
        launched = launch(tmp_path / "none.py", *alone, "--rdzv-conf=is_host=0,read_timeout=2,join_timeout=2")
        _, err = launched.communicate(timeout=120)
    assert launched.returncode == LOST, err
    assert "the other machines of the run cannot be reached" in err
