"""Requests to stop: SIGTERM (docker stop, a preempted machine) and SIGINT (Ctrl-C)."""

import signal
from types import FrameType

from tunestack_train.errors import StopRequested


class StopSignal:
    """Before training a request ends the run at once; while it trains, the run saves a checkpoint first.

    More requests of the same kind change nothing: a checkpoint that is being written is not disturbed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._training = False

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def hold(self) -> None:
        """From here on a request only sets `requested`, for the training loop to see."""
        self._training = True

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if not self._training:
            raise StopRequested(
                f"stopped on request ({signal.Signals(number).name}) before the first step",
                "start the same run again: it goes on from its newest checkpoint, where there is one",
            )
