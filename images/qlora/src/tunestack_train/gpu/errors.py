"""What can be wrong with a request to this library. Each says what to do about it."""

from collections.abc import Sequence


class GPUConfigError(ValueError):
    """A GPUConfig that cannot be; `problems` has all of them, one sentence each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class DeviceUnavailableError(RuntimeError):
    """The device asked for is not on this machine, or PyTorch cannot use it."""
