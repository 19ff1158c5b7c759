"""Runs one command to its end, and ends it with the runner: a program of its own, by the standard library alone.

    python supervise.py SECONDS GRACE FD -- COMMAND …

Standard input is a pipe that the runner holds. A byte on it, or its end (the runner is gone, however that came), asks
for the command's end: TERM to its process group, after GRACE seconds KILL. So does the time limit of SECONDS. What is
left of the group when the command itself has ended goes the same way. How it ended is written to the descriptor FD as
one JSON object.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time

_POLL_SECONDS = 0.05
_LEFTOVER_SECONDS = 5.0


def main() -> int:
    seconds, grace, report = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    command = sys.argv[5:]
    # The runner's own signals are not for this process; it learns what to do by the pipe.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    child_ended, wakeup = os.pipe()
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_default_signals)  # noqa: S603, PLW1509
    except OSError as error:
        _tell(report, error=f"{command[0]}: {error.strerror}")
        return 0
    reason = _wait(child, child_ended, time.monotonic() + seconds)
    _end(child, grace if reason else min(grace, _LEFTOVER_SECONDS))
    _tell(report, exit_code=child.wait(), reason=reason)
    return 0


def _default_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _wait(child: "subprocess.Popen[bytes]", child_ended: int, deadline: float) -> str | None:
    """None when the command ended by itself, else why it has to: `timeout` or `asked`."""
    while child.poll() is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return "timeout"
        ready, _, _ = select.select([0, child_ended], [], [], min(left, 60.0))
        if child_ended in ready:
            os.read(child_ended, 512)
        elif 0 in ready:
            return "asked"
    return None


def _end(child: "subprocess.Popen[bytes]", grace: float) -> None:
    """Ends the process group: TERM, grace, KILL. What runs in it beside the command counts as well."""
    if not _signal(child.pid, signal.SIGTERM):
        return
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline:
        child.poll()
        if not _signal(child.pid, 0):
            return
        time.sleep(_POLL_SECONDS)
    _signal(child.pid, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Whether there is still somebody in the group to get it."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Somebody in it has another user by now; the others have got it.
        return True
    return True


def _tell(report: int, **ending: object) -> None:
    os.write(report, json.dumps(ending).encode())
    os.close(report)


if __name__ == "__main__":
    sys.exit(main())
