"""Requests to stop: SIGTERM (docker stop, a preempted machine) and SIGINT (Ctrl-C)."""

import signal
from types import FrameType

from tunestack_train.errors import StopRequested


class Interrupted(BaseException):
    """Raised by a request to stop. No Exception, or libraries that catch those would swallow or disguise it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)

    def as_error(self) -> StopRequested:
        return StopRequested(
            f"stopped on request ({self}) before the first step",
            "start the same run again: it goes on from its newest checkpoint, where there is one",
        )


class StopSignal:
    """Before training a request ends the run at once; while it trains, the run saves a checkpoint first.

    More requests change nothing: neither a checkpoint that is being written nor the report of the end is disturbed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._held = False

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def hold(self) -> None:
        """From here on a request only sets `requested`, for the training loop to see."""
        self._held = True

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        before, self.requested = self.requested, True
        if not (self._held or before):
            raise Interrupted(number)
