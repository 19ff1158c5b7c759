"""Where a run's figures go: JSON lines, TensorBoard, and Weights & Biases where a key is given."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tunestack_train.events import EventWriter
from tunestack_train.settings import RunConfig

Metrics = Mapping[str, float]


class MetricsLog(Protocol):
    def log(self, metrics: Metrics, step: int) -> None: ...
    def close(self) -> None: ...


class JsonLines:
    """One JSON object a line. Lines of steps that will be done again (`resume_step` on) are taken out first."""

    def __init__(self, path: Path, resume_step: int, timestamps: "Clock") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._clock = timestamps
        kept = [entry for entry in read_metrics(path) if _step(entry) <= resume_step]
        aside = path.with_name(f".{path.name}.partial")
        aside.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
        aside.replace(path)
        self._file = path.open("a", encoding="utf-8")

    def log(self, metrics: Metrics, step: int) -> None:
        finite = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        self._file.write(json.dumps({"time": self._clock(), "step": step, **finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Clock(Protocol):
    def __call__(self) -> str: ...


class TensorBoard:
    """Scalars under `train/` and `eval/`, the names that TensorBoard's users know from the Trainer."""

    def __init__(self, folder: Path, resume_step: int) -> None:
        before = folder.is_dir() and any(folder.iterdir())
        self._writer = EventWriter(folder, purge_step=resume_step + 1 if before else None)

    def log(self, metrics: Metrics, step: int) -> None:
        for name, value in metrics.items():
            self._writer.scalar(scalar_name(name), value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def scalar_name(metric: str) -> str:
    """`train/loss` for `loss`, `eval/loss` for `eval_loss`: as the Trainer's users know them."""
    return f"eval/{metric.removeprefix('eval_')}" if metric.startswith("eval_") else f"train/{metric}"


class WeightsAndBiases:
    """A run of the same id in the project. The server is that of WANDB_BASE_URL, or wandb.ai."""

    def __init__(self, config: RunConfig, folder: Path, key: str) -> None:
        import wandb

        wandb.login(key=key, verify=False)
        self._run = wandb.init(
            project=config.wandb_project,
            name=config.name,
            id=config.name,
            resume="allow",
            dir=str(folder),
            config=config.as_dict(),
            settings=wandb.Settings(init_timeout=30, console="off"),
        )

    def log(self, metrics: Metrics, step: int) -> None:
        self._run.log({scalar_name(name): value for name, value in metrics.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


class AllLogs:
    """Hands everything to each log. With none it does nothing."""

    def __init__(self, logs: Sequence[MetricsLog]) -> None:
        self._logs = tuple(logs)

    def log(self, metrics: Metrics, step: int) -> None:
        for log in self._logs:
            log.log(metrics, step)

    def close(self) -> None:
        for log in self._logs:
            log.close()


def read_metrics(path: Path) -> list[dict[str, object]]:
    """The entries of a JSON lines log; a last line that was cut off by a kill is left out."""
    entries: list[dict[str, object]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return entries
    for line in lines:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def first_loss(path: Path) -> float | None:
    """The first loss that a JSON lines log holds."""
    losses = (entry.get("loss") for entry in read_metrics(path))
    return next((float(loss) for loss in losses if isinstance(loss, int | float)), None)


def _step(entry: Mapping[str, object]) -> int:
    step = entry.get("step")
    return step if isinstance(step, int) else 0
