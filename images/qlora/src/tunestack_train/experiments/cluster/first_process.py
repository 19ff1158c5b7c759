"""The first process of an experiment's pod: a program of its own, by the standard library alone.

    python first_process.py COMMAND …

The kernel keeps TERM from a first process that has not asked for it, and a shell asks for nothing and passes nothing
on. So this one hands TERM to the whole process group of the command, which gets its pod's grace, and ends as the
command does: with its code, or with 128 and the signal that ended it.
"""

import os
import signal
import subprocess
import sys


def main() -> int:
    group: list[int] = []
    asked = False

    def hand_on(*_: object) -> None:
        nonlocal asked
        asked = True
        for one in group:
            os.killpg(one, signal.SIGTERM)

    signal.signal(signal.SIGTERM, hand_on)
    try:
        child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, process_group=0)  # noqa: S603 - what it is for
    except OSError as error:
        sys.stderr.write(f"{sys.argv[1]}: {error.strerror}\n")
        return 127
    group.append(child.pid)
    if asked:
        hand_on()
    while True:
        # Whoever has lost its parent in this container has this process as its parent.
        pid, status = os.wait()
        if pid == child.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
