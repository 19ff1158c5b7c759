"""What a runner says of itself: in `status.json` of its folder, and on the server in refs/tunestack/runners/NAME."""

import contextlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tunestack_train.experiments.git import RUNNERS, NewCommit, Update
from tunestack_train.experiments.json_text import indented
from tunestack_train.experiments.positions import Json
from tunestack_train.experiments.results import now, write_atomically

STATUS: Final = "status.json"
SOLVED: Final = {
    "access": "the git server answers again",
    "branch-missing": "the branch is there again",
    "file": "experiments.json is in order again",
    "cluster": "the API server of the cluster answers again",
}
_RENEWED_SECONDS: Final = 900.0


class Report:
    """Problems by their code, each told from when it appears until it is gone."""

    def __init__(self, path: Path, fixed: Mapping[str, Json], between: float) -> None:
        self._path = path
        self._fixed = fixed
        self._between = between
        self._problems: dict[str, dict[str, Json]] = {}
        self._pushed = ""
        self._pushed_problems = ""
        self._pushed_at = float("-inf")
        self.state = "idle"
        self.running: list[str] = []
        self.answered_at: str | None = None

    def problem(self, code: str, message: str, remedy: str, **more: Json) -> bool:
        """Notes a problem; True if it is new."""
        content: dict[str, Json] = {"code": code, "message": message, "remedy": remedy, **more}
        known = self._problems.get(code)
        if known is not None and all(known.get(key) == value for key, value in content.items()):
            return False
        self._problems[code] = content | {"since": known["since"] if known else now()}
        return True

    def solved(self, code: str) -> bool:
        """Forgets a problem; True if there was one."""
        return self._problems.pop(code, None) is not None

    def describe(self, running: Iterable[str], *, stopping: bool) -> None:
        """What the runner has, and so what it does."""
        self.running = sorted(running)
        busy = "running" if self.running else "idle"
        self.state = "stopping" if stopping else busy

    def content(self) -> dict[str, Json]:
        problems: list[Json] = [dict(problem) for problem in self._problems.values()]
        return dict(self._fixed) | {"state": self.state, "running": list(self.running), "problems": problems}

    def write(self, **more: Json) -> None:
        """Renews the local file. A full disk is no reason to stop."""
        with contextlib.suppress(OSError):
            text = indented(self.content() | {"updated_at": now(), "answered_at": self.answered_at} | more)
            write_atomically(self._path, text + "\n")

    def last(self) -> str:
        """The text for the server when the runner ends."""
        self.state = "stopped"
        return indented(self.content() | {"updated_at": now()}) + "\n"

    def news(self) -> str | None:
        """The text for the server if it says more than the last one: for a push that is made in any case."""
        content = self.content()
        return None if indented(content) == self._pushed else indented(content | {"updated_at": now()}) + "\n"

    def due(self) -> str | None:
        """The text for the server if it wants a push: problems at once, the rest not more often than polls."""
        content = self.content()
        text, problems = indented(content), indented(content["problems"])
        age = time.monotonic() - self._pushed_at
        if problems == self._pushed_problems and (
            age < self._between or (text == self._pushed and age < _RENEWED_SECONDS)
        ):
            return None
        return indented(content | {"updated_at": now()}) + "\n"

    def commit(self, text: str) -> NewCommit:
        """The text as what the runner's ref is to hold."""
        return NewCommit(f"report of {self._fixed['runner']}", {"runner.json": text.encode()})

    def update(self, commit: str) -> Update:
        """The change of the runner's ref, which nobody else writes."""
        return Update(f"{RUNNERS}{self._fixed['runner']}", None, commit, anyway=True)

    def pushed(self) -> None:
        content = self.content()
        self._pushed, self._pushed_problems = indented(content), indented(content["problems"])
        self._pushed_at = time.monotonic()
