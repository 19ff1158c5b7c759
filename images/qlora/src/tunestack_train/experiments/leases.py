"""How long each claim has not changed, by this machine's own monotonic clock."""

import time
from collections.abc import Callable, Iterable, Mapping


class Leases:
    """Remembers since when each claim has had its value. Clocks of other machines play no part."""

    def __init__(self, lease: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease
        self._clock = clock
        self._since: dict[str, tuple[str | None, float]] = {}

    def note(self, claims: Mapping[str, str], running: Iterable[str]) -> None:
        """What the server shows now. An experiment that is `running` without a claim is watched for that."""
        now = self._clock()
        seen: dict[str, str | None] = dict.fromkeys(running)
        seen |= claims
        self._since = {
            name: self._since[name] if name in self._since and self._since[name][0] == claim else (claim, now)
            for name, claim in seen.items()
        }

    def unchanged(self, name: str) -> float:
        """Seconds for which it has been seen as it is."""
        return self._clock() - self._since[name][1] if name in self._since else 0.0

    def expired(self, name: str) -> bool:
        return self.unchanged(name) >= self._lease

    def next_expiry(self) -> float | None:
        """Seconds until the first one that is watched expires; None where there is none to wait for."""
        left = [self._lease - (self._clock() - since) for _, since in self._since.values()]
        return min((one for one in left if one > 0), default=None)
