"""What can go wrong for a person, one class and one exit code for each cause."""

from typing import ClassVar


class TunestackError(Exception):
    """Something a person can mend. `message` says what is wrong, where and with which value; `remedy` what to do."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


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
