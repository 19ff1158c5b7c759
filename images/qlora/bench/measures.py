"""How a benchmark in Python hands over what it measured: one JSON object on standard output.

`npm run bench -- NAME` starts `bench/NAME.py` where the training packages are, compares each measure with its bound and
prints them. What is said meanwhile goes to standard error.
"""

import json
import sys
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Measure:
    """One figure. `value` None: not measured on this machine. `bound` such as `<= 1.02`; None promises nothing."""

    name: str
    value: float | None
    unit: str
    bound: str | None = None


def report(*measures: Measure) -> None:
    print(json.dumps({"measures": [asdict(measure) for measure in measures]}))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
