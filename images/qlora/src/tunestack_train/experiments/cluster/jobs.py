"""The jobs and pods of one queue, asked for together however many wait for theirs."""

import threading
import time
from collections.abc import Callable

from tunestack_train.experiments.cluster.api import Api, Object
from tunestack_train.experiments.cluster.manifest import QUEUE_LABEL, object_name


class Jobs:
    """What the cluster shows of a queue, at most so many seconds old."""

    def __init__(self, api: Api, queue: str, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.api = api
        self.queue = queue
        self.seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._seen_at = float("-inf")
        self._jobs: dict[str, Object] = {}
        self._pods: list[Object] = []

    def look(self, name: str, since: float) -> tuple[Object | None, list[Object]]:
        """The Job of this name, None where there is none, and all pods; as they were at `since` or later."""
        with self._lock:
            if self._seen_at < since or self._clock() - self._seen_at >= self.seconds:
                self._ask()
            return self._jobs.get(name), self._pods

    def all(self) -> list[Object]:
        """Every Job of the queue, as they are now."""
        with self._lock:
            self._ask()
            return list(self._jobs.values())

    def now(self) -> float:
        return self._clock()

    def _ask(self) -> None:
        # Before the answer, since what changes meanwhile may not be in it.
        asked_at = self._clock()
        selector = f"{QUEUE_LABEL}={self.queue}"
        jobs = {object_name(job): job for job in self.api.list("jobs", selector)}
        # After the jobs: of one that has ended there, the pod has ended here.
        self._pods = self.api.list("pods", selector)
        self._jobs, self._seen_at = jobs, asked_at
