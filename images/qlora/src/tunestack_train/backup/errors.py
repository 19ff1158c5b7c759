"""What can go wrong with a backup, one exit code a cause. Settings (2) and a full disk (6) are the package's own."""

from tunestack_train.errors import TunestackError


class RepositoryError(TunestackError):
    """The repository does not open with this password, is damaged, or does not give back what was put in."""

    exit_code = 3


class NothingThereError(TunestackError):
    """There is nothing to restore, or nothing to back up."""

    exit_code = 4


class BusyError(TunestackError):
    """Somebody else uses the repository."""

    exit_code = 5


class NetworkError(TunestackError):
    """The object store cannot be reached."""

    exit_code = 7


class IncompleteError(TunestackError):
    """A snapshot could not be taken whole, because files changed while they were read."""

    exit_code = 8


class StoppedError(TunestackError):
    """A signal asked for the end."""

    exit_code = 130
