"""Which claims are void: silent for their whole lease, or written by this runner before it was started again."""

import contextlib
import math

from tunestack_train.experiments.access import AccessError
from tunestack_train.experiments.git import Git, GitError, Refs
from tunestack_train.experiments.json_text import read
from tunestack_train.experiments.leases import Leases
from tunestack_train.experiments.positions import Json


class Claims:
    """Looks at the claims of others. `instance` tells this runner's state folder from every other."""

    def __init__(self, git: Git, lease: float, instance: str) -> None:
        self._git = git
        self._lease = lease
        self._instance = instance
        self._leases = Leases(lease)
        self._refs: Refs | None = None
        self._own: dict[str, str] = {}
        self._named: dict[str, float] = {}

    def recover(self, refs: Refs) -> None:
        """Finds the claims that this runner wrote before it died: it holds the lock of its folder, so they are void."""
        if not refs.claims:
            return
        with contextlib.suppress(AccessError, GitError):
            self._git.fetch_claims()
        for name, claim in refs.claims.items():
            with contextlib.suppress(GitError):
                if self._content(claim).get("instance") == self._instance:
                    self._own[name] = claim

    def disown(self, claims: dict[str, str]) -> None:
        """Claims of this runner with nothing behind them, should they be on the server at all."""
        self._own |= claims

    def own(self, name: str) -> str | None:
        """The claim on an experiment that an earlier start of this runner wrote and that still stands."""
        return self._own.get(name)

    def take_up(self, name: str) -> None:
        """There is something behind that claim after all."""
        self._own.pop(name, None)

    def note(self, refs: Refs, running: list[str]) -> None:
        """What the server shows, and what is `running` on the branch."""
        self._refs = refs
        self._leases.note(refs.claims, running)
        self._own = {name: claim for name, claim in self._own.items() if refs.claims.get(name) == claim}

    def void(self, name: str) -> bool:
        """Whether it may be taken over. An experiment that runs without a claim counts like one with a silent claim."""
        if name in self._own:
            return True
        return self._leases.expired(name) and self._leases.unchanged(name) >= self._lease_of(name)

    def next_expiry(self) -> float | None:
        """Seconds until the next claim becomes void if nothing changes."""
        return self._leases.next_expiry()

    def _lease_of(self, name: str) -> float:
        """The lease that the claim itself names: its runner may have been given a longer one."""
        claim = self._refs.claims.get(name) if self._refs else None
        if claim is None:
            return self._lease
        if claim not in self._named:
            try:
                seconds = self._content(self._git.fetch_claim(name)).get("lease_seconds")
            except AccessError:
                # It has just gone, or the server has: the next look tells.
                return math.inf
            self._named[claim] = float(seconds) if isinstance(seconds, int | float) else self._lease
        return self._named[claim]

    def _content(self, commit: str) -> dict[str, Json]:
        try:
            content = read(self._git.read(commit, "claim.json") or "null")
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}
