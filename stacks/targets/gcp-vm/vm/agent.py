"""The VM's own part: disk, secrets, plan, status, and the end of its time. Python's standard library alone.

    machine ← cloud ← disk, content, engine ← plan ← ending ← agent

Runs as root on the VM, configured by what the boot script writes. Nothing secret is kept but in memory (/run).
"""

import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from cloud import remove, status
from disk import attach_disk
from ending import (
    NOTICE_SECONDS,
    UNHURRIED_SECONDS,
    Idleness,
    PreemptionWatch,
    going_down,
    lease_is_over,
    save_all,
    take_down,
)
from machine import AgentError, configuration
from plan import ENDED, apply_plan, note_ended_run, plan_generation

# Exit code: the VM's time is over, and the boot script has nothing to do.
OVER = 10
POLL_SECONDS = 15.0
# How long after a plan that could not be applied it is tried again.
RETRY_SECONDS = 60.0
# How often what goes on failing is told again.
AGAIN_SECONDS = 300.0


class Agent:
    """Applies the plan whenever it changes, and watches the clock, the GPU and the notice of preemption."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._ending = threading.Event()
        self._preempted = False
        self._saving = threading.Lock()
        self._saved = False
        self._seen: str | None = None
        self._applied: str | None = None
        self._tried = -RETRY_SECONDS
        self._idleness = Idleness()
        self._told: dict[str, tuple[str, float]] = {}

    def serve(self) -> None:
        """Until the VM goes down or somebody stops this service."""
        signal.signal(signal.SIGTERM, lambda *_: self._ending.set())
        PreemptionWatch(self._on_preemption).start()
        while not self._ending.is_set():
            # Each by itself: a plan that cannot be applied must not keep the VM from going when its time is over.
            self._attempt("plan", self._plan)
            self._attempt("run", lambda: note_ended_run(self._config, self._leaves))
            self._attempt("time", self._time)
            self._attempt("idleness", self._idle)
            self._ending.wait(POLL_SECONDS)
        if self._preempted or going_down():
            self._save("preempted" if self._preempted else "the machine shuts down", NOTICE_SECONDS)

    def _leaves(self) -> bool:
        return self._ending.is_set() or self._saved

    def _on_preemption(self) -> None:
        self._preempted = True
        self._ending.set()
        # From this thread, since the other one may be in the middle of something long.
        self._save("preempted", NOTICE_SECONDS)

    def _save(self, reason: str, within: float) -> None:
        with self._saving:
            if not self._saved:
                self._saved = True
                save_all(self._config, reason, within)

    def _plan(self) -> None:
        seen = plan_generation(self._config)
        if seen != self._seen:
            # A VM that wanted to go and could not has something to do again.
            self._seen, self._saved, self._tried = seen, False, -RETRY_SECONDS
            self._idleness = Idleness()
        if seen == self._applied or time.monotonic() - self._tried < RETRY_SECONDS:
            return
        try:
            if not lease_is_over(self._config, seen) and not self._leaves():
                apply_plan(self._config)
        except (AgentError, OSError, ValueError, LookupError) as error:
            # Told each time, since what is tried again tells of itself in between.
            status(self._config, "failed", str(error))
        else:
            self._applied = seen
            # An image takes its time to come, in which nothing could be at work.
            self._idleness = Idleness()
        finally:
            self._tried = time.monotonic()

    def _time(self) -> None:
        if lease_is_over(self._config, plan_generation(self._config)):
            self._go("the time of gcp.maximumRun is over")

    def _idle(self) -> None:
        if self._idleness.seconds() >= self._config["idleShutdownSeconds"]:
            self._go("no training step and no work of the GPU for the time of gcp.idleShutdown")

    def _go(self, reason: str) -> None:
        self._save(reason, UNHURRIED_SECONDS)
        take_down(self._config, reason)
        raise SystemExit(0)

    def _attempt(self, name: str, action: Callable[[], None]) -> None:
        """Tells what fails, once, and again now and then; and that it is well again."""
        if self._ending.is_set():
            return
        try:
            action()
        except (AgentError, OSError, ValueError, LookupError) as error:
            text, since = self._told.get(name, ("", 0.0))
            if text != str(error) or time.monotonic() - since >= AGAIN_SECONDS:
                self._told[name] = (str(error), time.monotonic())
                status(self._config, "failed", str(error))
        else:
            if self._told.pop(name, None) is not None:
                status(self._config, "up", "what had failed works again")


def main(arguments: list[str]) -> None:
    config = configuration()
    match arguments:
        case ["status", stage, message]:
            status(config, stage, message)
        case ["check-lease"]:
            if lease_is_over(config, plan_generation(config)):
                take_down(config, "the time of gcp.maximumRun is over")
                raise SystemExit(OVER)
        case ["attach-disk"]:
            attach_disk(config)
        case ["give-up"]:
            take_down(config, "the boot script failed, and nobody mended it for the time of gcp.idleShutdown")
        case ["forget-end"]:
            remove(config["bucket"], ENDED)
        case ["serve"]:
            Agent(config).serve()
        case _:
            raise SystemExit(
                "usage: agent.py status STAGE MESSAGE | check-lease | attach-disk | give-up | forget-end | serve"
            )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AgentError as error:
        raise SystemExit(f"tunestack: {error}") from None
