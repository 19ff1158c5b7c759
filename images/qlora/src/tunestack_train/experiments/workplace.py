"""What every experiment of a runner gets, wherever it runs: a folder for its outputs, its log, a worktree."""

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tunestack_train.experiments.access import Access
from tunestack_train.experiments.git import Git
from tunestack_train.experiments.log_file import LogFile
from tunestack_train.experiments.redaction import Redactor
from tunestack_train.experiments.results import LOG, now
from tunestack_train.experiments.settings import Settings


@dataclass(frozen=True)
class Workplace:
    """A runner's folders and what it says. `runner` is its name."""

    settings: Settings
    runner: str
    git: Git
    access: Access
    redactor: Redactor
    say: Callable[[str], None]

    def output_of(self, name: str) -> Path:
        return self.settings.outputs / name

    def log_of(self, name: str) -> LogFile:
        """The log of an experiment, in its outputs folder."""
        # Where the folder cannot be made, the execution ends with that as its error.
        with contextlib.suppress(OSError):
            self.output_of(name).mkdir(parents=True, exist_ok=True)
        self.redactor.add(self.access.all_secrets())
        return LogFile(
            self.output_of(name) / LOG,
            self.settings.most_log_bytes,
            self.redactor,
            lambda error: self.say(f"{name}: {error}"),
        )

    def head(self, name: str, number: int, commit: str) -> str:
        """The first line of an attempt's log."""
        return f"{now()} attempt {number} of {name} on {self.runner}, commit {commit}"

    def worktree_for(self, name: str) -> Path:
        """A new folder: no git of an earlier runner, killed a moment ago, can still be busy with its name."""
        return self.settings.worktrees / f"{name}-{secrets.token_hex(4)}"
