"""Where a run's figures go: JSON lines, TensorBoard, and Weights & Biases where that is wanted.

These write when they are told to, and fail when they cannot; `log_threads` keeps both away from the run.
"""

import contextlib
import errno
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tunestack_train.errors import SettingsError
from tunestack_train.events import EventWriter
from tunestack_train.notify import Word
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
        # Unbuffered: a line that a full disk refused is not tried again, in pieces, with the next.
        self._file = path.open("ab", buffering=0)
        self._torn = False

    def log(self, metrics: Metrics, step: int) -> None:
        finite = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        line = json.dumps({"time": self._clock(), "step": step, **finite}) + "\n"
        whole = (("\n" if self._torn else "") + line).encode()
        self._torn = True
        if self._file.write(whole) != len(whole):
            raise OSError(errno.ENOSPC, "no room for a whole line", self._file.name)
        self._torn = False

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


def wandb_mode(config: RunConfig, key: str | None, environment: Mapping[str, str]) -> str:
    """online, offline or disabled: by the setting, else WANDB_MODE, else online where a key is given.

    Raises SettingsError for online without a key.
    """
    asked = config.wandb_mode if config.wandb_mode != "auto" else environment.get("WANDB_MODE", "")
    known = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
    mode = known.get(asked, "online" if key is not None else "disabled")
    if mode == "online" and key is None:
        raise SettingsError(
            f"Weights & Biases is asked for ({asked}), and no key is given",
            "give the key as the secret wandb-api-key (or as WANDB_API_KEY); or set wandb_mode=offline, and send the "
            "run later by `tunestack-train wandb-sync`",
        )
    return mode


class WeightsAndBiases:
    """A run of the same id in the project. The server is that of WANDB_BASE_URL, or wandb.ai.

    `key` is None offline: then the run is kept in `folder`/wandb, to be sent later.
    """

    def __init__(self, config: RunConfig, folder: Path, key: str | None) -> None:
        # set_up_libraries hides it from those that would import it for nothing.
        if sys.modules.get("wandb", sys) is None:
            del sys.modules["wandb"]
        import wandb

        if key is not None:
            wandb.login(key=key, verify=False)
        self._run = wandb.init(
            project=config.wandb_project,
            name=config.name,
            id=config.name,
            resume="allow",
            dir=str(folder),
            config=config.as_dict(),
            mode="offline" if key is None else "online",
            settings=wandb.Settings(init_timeout=30, console="off"),
        )

    def tell(self, word: Word) -> None:
        """Sends an alert, by e-mail or Slack as the person has it there. What goes wrong with it is left at that."""
        with contextlib.suppress(Exception):
            self._run.alert(title=word.title[:63], text=word.plain(), level="INFO" if word.good else "ERROR")

    def log(self, metrics: Metrics, step: int) -> None:
        self._run.log({scalar_name(name): value for name, value in metrics.items()}, step=step)

    def close(self) -> None:
        import wandb

        self._run.finish()
        # Its own process writes the last records after that; a container that ends now would take it along.
        wandb.teardown()


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
