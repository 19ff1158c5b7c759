"""What is held out of a run's data, and which checkpoint did best on it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

BEST_FILE: Final = "best.json"


@dataclass(frozen=True)
class Best:
    """The checkpoint with the lowest evaluation loss (nats for each learnt token) of a run so far."""

    step: int
    eval_loss: float


def best_checkpoint(run_folder: Path) -> Best | None:
    """What the run has noted as its best; None where nothing was evaluated."""
    try:
        content = json.loads((run_folder / BEST_FILE).read_text(encoding="utf-8"))
        return Best(int(content["step"]), float(content["eval_loss"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_best(run_folder: Path, best: Best) -> None:
    """Writes the best beside the checkpoints, whole or not at all."""
    aside = run_folder / f".{BEST_FILE}.partial"
    aside.write_text(json.dumps({"schema": 1, **asdict(best)}) + "\n", encoding="utf-8")
    aside.replace(run_folder / BEST_FILE)
