"""An estimate for people, as a table, and for programs."""

from tunestack_train.estimate.duration import Duration
from tunestack_train.estimate.fit import Advice, Estimate
from tunestack_train.progress import duration as clock
from tunestack_train.units import show_size


def title(found: Estimate) -> str:
    machine = found.machine
    verdict = {"fits": "fits into", "tight": "may not fit into", "too large": "does not fit into"}[found.verdict]
    return f"memory: {show_size(found.size)} estimated, {verdict} {show_size(machine.memory)} of {machine.name}"


def lines(found: Estimate, advice: tuple[Advice, ...]) -> tuple[str, ...]:
    """The parts of the estimate, the time, and what to change where it does not fit."""
    table = [f"  {part.name:20} {show_size(part.size):>10}  {part.detail}" for part in found.parts if part.size]
    if found.duration is not None:
        table.append(_time(found.duration))
    if advice:
        table.append("  less memory, each line with what stands in it:")
        table += [f"    {line}" for line in advice_lines(advice)]
    return tuple(table)


def advice_lines(advice: tuple[Advice, ...]) -> list[str]:
    """What to set, with the memory that it takes, a line each."""
    return [
        f"{show_size(item.size):>10}  {item.arguments}{'' if item.fits else ' (still too much)'}" for item in advice
    ]


def _time(found: Duration) -> str:
    speed = f"{found.tokens_per_second:,.0f} tokens/s"
    return f"  time: {clock(found.seconds)} for {found.steps:,} steps at {speed} ({found.source})"


def as_dict(found: Estimate, advice: tuple[Advice, ...]) -> dict[str, object]:
    """Sizes in bytes, times in seconds. `hours` is None where nothing is known of the device's speed."""
    time = found.duration
    return {
        "schema": 1,
        "device": found.machine.name,
        "device_memory_bytes": found.machine.memory,
        "memory_bytes": found.size,
        "verdict": found.verdict,
        "parts": [
            {"name": part.name, "bytes": part.size, "detail": part.detail, "assumed": not part.certain}
            for part in found.parts
        ],
        "parameters": found.architecture.parameters,
        "steps": None if time is None else time.steps,
        "seconds": None if time is None else time.seconds,
        "hours": None if time is None else time.seconds / 3600,
        "tokens_per_second": None if time is None else time.tokens_per_second,
        "time_source": None if time is None else time.source,
        "advice": [{"settings": dict(item.settings), "bytes": item.size, "fits": item.fits} for item in advice],
    }
