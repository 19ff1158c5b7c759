"""What a pod says, brought into the log of its experiment."""

import threading
from typing import Final

from tunestack_train.experiments.cluster.api import Api, ClusterError
from tunestack_train.experiments.log_file import LogFile

_AGAIN_SECONDS: Final = 1.0
_DRAIN_SECONDS: Final = 30.0


class PodLog:
    """Follows one pod in a thread of its own. A connection that breaks is made again where it broke off."""

    def __init__(self, api: Api, pod: str, log: LogFile, since: str | None) -> None:
        """`since`: a time as the API writes it, before which everything is in the log already."""
        self.pod = pod
        self._api = api
        self._log = log
        self._since = since
        self._last: tuple[str, str] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"log of {pod}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """The pod has ended, or is gone: takes what it said last."""
        self._ended.set()
        self._thread.join(_DRAIN_SECONDS)

    def _run(self) -> None:
        while True:
            last_time = self._ended.is_set()
            try:
                self._take(follow=not last_time)
            except ClusterError as error:
                if last_time and self._last is None and error.status != 404:
                    self._log.say(f"what {self.pod} said cannot be had: {error.message}")
            if last_time:
                return
            self._ended.wait(_AGAIN_SECONDS)

    def _take(self, *, follow: bool) -> None:
        query = {"timestamps": "true", "follow": "true" if follow else "false"}
        if self._since is not None:
            query["sinceTime"] = self._since
        for line in self._api.log_lines(self.pod, query):
            stamp, _, text = line.partition(b" ")
            time = _comparable(stamp.decode(errors="replace"))
            if self._last is not None and time <= self._last:
                continue
            self._last = time
            self._since = stamp.decode(errors="replace")
            self._log.write(text)


def _comparable(stamp: str) -> tuple[str, str]:
    """Seconds and their fraction, whose zeros at the end are left out where they are written."""
    seconds, _, fraction = stamp.rstrip("Z").partition(".")
    return seconds, fraction.ljust(9, "0")
