"""The check of a run before its model is loaded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tunestack_train.device import Device
from tunestack_train.errors import OutOfMemoryError
from tunestack_train.estimate import report
from tunestack_train.estimate.architecture import UnknownArchitecture, read
from tunestack_train.estimate.fit import Estimate, advice, estimate, of_device
from tunestack_train.settings import RunConfig
from tunestack_train.units import show_size


def check_fit(
    config: RunConfig,
    model_folder: Path,
    device: Device,
    processes: int,
    examples: int,
    tokens: int,
    say: Callable[[str], None],
) -> Estimate | None:
    """Says what a run will take, of a data set of so many examples and tokens; None where nothing is known.

    Raises OutOfMemoryError, with settings that fit, when what is counted exceeds the memory of the device.
    """
    try:
        architecture = read(model_folder)
    except UnknownArchitecture as unknown:
        say(f"note: memory is not estimated: {unknown}")
        return None
    machine = replace(of_device(device), processes=processes)
    found = estimate(config, architecture, machine, examples=examples, sequence=round(tokens / max(1, examples)))
    say(report.title(found))
    if found.verdict == "fits":
        return found
    less = "\n    ".join(report.advice_lines(advice(config, architecture, found.machine)))
    remedy = f"under another name, or before it begins, one of these takes less:\n    {less}" if less else "use another"
    if found.verdict == "too large" and config.memory_check == "refuse":
        raise OutOfMemoryError(
            f"{config.model} with these settings takes {show_size(found.size)}, {device.name} has "
            f"{show_size(found.machine.memory)} (an estimate; --set memory_check=warn starts it nevertheless)",
            remedy,
        )
    say(f"note: {remedy}")
    return found
