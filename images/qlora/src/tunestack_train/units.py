"""Durations and sizes as people write them: `90s`, `1h`, `64MiB`. Standard library only."""

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parse_duration(text: str) -> float:
    """Seconds in `text`, a positive number and one of ms, s, m, h, d. Raises ValueError with a message for people."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{text!r} is no duration; write a number above zero with ms, s, m, h or d, such as 5s or 1h")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Bytes in `text`, a positive number with B, KiB, MiB, GiB or TiB. Raises ValueError with a message for people."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(B|KiB|MiB|GiB|TiB)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{text!r} is no size; write a number above zero with B, KiB, MiB, GiB or TiB, such as 64MiB")
    return int(float(match[1]) * _BYTES[match[2]])


def show_duration(seconds: float) -> str:
    """`seconds` in the largest unit that leaves at most one decimal: `5s`, `1.5h`."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        if seconds >= size:
            return f"{round(seconds / size, 1):g}{unit}"
    return f"{round(seconds, 1):g}s"


def show_size(count: float) -> str:
    """`count` bytes in the largest binary unit: `1.5 GiB`."""
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"
