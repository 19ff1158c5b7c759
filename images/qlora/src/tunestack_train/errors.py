"""What can go wrong for a person, one class and one exit code for each cause."""

from dataclasses import asdict, dataclass
from typing import ClassVar


class TunestackError(Exception):
    """Something a person can mend. `message` says what is wrong, where and with which value; `remedy` what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.told_by_first = False
        """Whether the first of several processes tells the person, so that this one needn't."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a stack trace (IPython's own hook)."""
        return [f"{self.message}\n→ {self.remedy}"]


class SettingsError(TunestackError):
    exit_code = 2


class DataError(TunestackError):
    exit_code = 3


class OutOfMemoryError(TunestackError):
    exit_code = 4


class ModelUnavailableError(TunestackError):
    exit_code = 5


class DiskFullError(TunestackError):
    exit_code = 6


class StopRequested(TunestackError):  # noqa: N818 - nothing is wrong: someone asked for it
    """The run was asked to stop (SIGTERM, SIGINT); whatever could be saved has been."""

    exit_code = 75


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the settings: where, the value, why, and what to do."""

    path: str
    value: str
    reason: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.path} = {self.value}\n    {self.reason}\n    {self.remedy}"


class SettingsProblems(Exception):  # noqa: N818 - it carries problems and is reported as them
    """Everything that is wrong with the settings, not only the first."""

    exit_code: ClassVar[int] = 2

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.path} = {problem.value}: {problem.reason}" for problem in problems))
        self.problems = problems
