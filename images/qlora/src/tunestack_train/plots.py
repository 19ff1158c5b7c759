"""The course of a run as a picture. Only drawing imports matplotlib, which takes a second."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_SMOOTHED_FROM: Final = 20
"""Points from which on a smoothed curve says more than the points do."""


def draw_curve(path: Path, metrics: Sequence[Mapping[str, object]], title: str) -> bool:
    """Draws loss and learning rate over the steps into a PNG. Returns whether there was anything to draw."""
    losses, held_out, rates = (_points(metrics, name) for name in ("loss", "eval_loss", "learning_rate"))
    if not losses:
        return False
    # Where the home folder cannot be written, matplotlib would make one of its own and complain.
    os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / "matplotlib"))
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    many = len(losses) >= _SMOOTHED_FROM
    upper.plot(*zip(*losses, strict=True), color="tab:blue", alpha=0.35 if many else 1.0, label="loss")
    if many:
        upper.plot(*zip(*_smoothed(losses), strict=True), color="tab:blue", label="loss, smoothed")
    if held_out:
        upper.plot(*zip(*held_out, strict=True), color="tab:orange", marker="o", label="loss on what was held out")
    upper.set_ylabel("nats per token")
    upper.set_title(title)
    upper.legend()
    if rates:
        lower.plot(*zip(*rates, strict=True), color="tab:green")
    lower.set_ylabel("learning rate")
    lower.set_xlabel("step")
    for axes in (upper, lower):
        axes.grid(visible=True, alpha=0.3)
    figure.savefig(path, format="png", dpi=120)
    return True


def _points(metrics: Sequence[Mapping[str, object]], name: str) -> list[tuple[float, float]]:
    return [
        (float(step), float(value))
        for entry in metrics
        if isinstance(step := entry.get("step"), int | float) and isinstance(value := entry.get(name), int | float)
    ]


def _smoothed(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Exponential moving average over about a tenth of the points."""
    weight = 2 / (max(1, len(points) // 10) + 1)
    average = points[0][1]
    smooth: list[tuple[float, float]] = []
    for step, value in points:
        average += weight * (value - average)
        smooth.append((step, average))
    return smooth
