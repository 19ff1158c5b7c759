"""When to try again: to move a branch that other runners move as well, and to reach a server that does not answer."""

import random
import time
from collections.abc import Callable
from typing import Final

_LONGEST_SECONDS: Final = 30.0
_WIDEST: Final = 8.0
_GROWTH: Final = 1.5
_DECAY: Final = 0.6


class Turns:
    """Waits that grow with each try that came too late, and shrink with each that did not.

    They are counted in units of what a try takes, and each is drawn anew, so that runners which met once do not meet
    again. They outlive the push that made them: where many work, the next try is too early as well without a wait.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._draw = draw
        self._takes = 0.0
        self._width = 0.0
        self.at = float("-inf")

    @property
    def contended(self) -> bool:
        """Whether others were in the way of late."""
        return self._width > 0

    def lost(self, seconds: float) -> None:
        """A try that took so long was refused: others had come first."""
        self._width = min(_WIDEST, max(1.0, self._width * _GROWTH))
        self._wait(seconds)

    def won(self, seconds: float) -> None:
        """A try that took so long came through."""
        self._width = self._width * _DECAY if self._width * _DECAY >= 0.5 else 0.0
        self._wait(seconds)

    def _wait(self, seconds: float) -> None:
        # A refused try is over sooner than one that comes through, and says less of how long they take.
        self._takes = max(seconds, self._takes * _DECAY)
        self.at = self._clock() + self._draw(0.0, min(_LONGEST_SECONDS, self._takes * self._width))


def jittered(seconds: float) -> float:
    """A tenth more or less, so that runners that were started together do not ask together for ever."""
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311 - nothing depends on its being unpredictable
