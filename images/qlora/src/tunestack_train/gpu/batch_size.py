"""The largest batch that fits, by trying."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .choice import resolve_device
from .info import device_of
from .memory import empty_cache, is_out_of_memory, memory_figures, release_frames, return_cache, show_bytes
from .peak import bytes_of, measure_peak
from .steps import Autocast, Step, borrowed, inference_step, tensors_in, training_step
from .transfer import move_to_device

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch


@dataclass(frozen=True)
class BatchTrial:
    """One batch size as it was tried. Where memory ran out, or the trial was not risked, `peak_bytes` is None."""

    batch_size: int
    fits: bool
    peak_bytes: int | None
    seconds: float | None


def get_optimal_batch_size(  # noqa: PLR0913 - each has a meaning of its own and a default
    model: torch.nn.Module,
    make_batch: Callable[[int], Any],
    device: torch.device | str | None = None,
    *,
    training: bool = True,
    step: Step | None = None,
    autocast: Autocast | None = None,
    minimum: int = 1,
    maximum: int = 1024,
    headroom: float = 0.1,
    memory_limit: int | None = None,
    on_trial: Callable[[BatchTrial], None] | None = None,
) -> int:
    """The largest batch size from `minimum` to `maximum` with which a step fits into memory: doubled, then bisected.

    `make_batch(n)` gives the inputs of n samples, on any device. `step(model, batch)` is what is tried; without it, a
    forward and a backward pass, or with `training=False` a forward pass. An optimizer's state counts only if `step`
    makes it. A step fits when it ends without the memory being full and leaves the share `headroom` of what was to be
    had, or stays below `memory_limit` bytes.

    A CPU does not refuse memory, it is killed for taking it: there a size is not tried when the ones before say that it
    would not fit. The model's mode, gradients, buffers and the random numbers are afterwards what they were.

    Raises ValueError for limits that cannot be, and torch.OutOfMemoryError when not even `minimum` fits.
    """
    _check(minimum, maximum, headroom, memory_limit)
    target = device_of(model) if device is None else resolve_device(device)
    work = step or (training_step if training else inference_step)
    search = _Search(model, make_batch, target, work, autocast, _limit(target, headroom, memory_limit), on_trial)
    with borrowed(model, training=training):
        try:
            return search.run(minimum, maximum)
        finally:
            return_cache(target)


def _check(minimum: int, maximum: int, headroom: float, memory_limit: int | None) -> None:
    problems = []
    if minimum < 1:
        problems.append(f"minimum = {minimum}: give at least 1")
    if maximum < minimum:
        problems.append(f"maximum = {maximum}: is below minimum = {minimum}")
    if not 0 <= headroom < 1:
        problems.append(f"headroom = {headroom}: give a share from 0 to below 1")
    if memory_limit is not None and memory_limit < 1:
        problems.append(f"memory_limit = {memory_limit}: give bytes, or None")
    if problems:
        raise ValueError("; ".join(problems))


def _limit(device: torch.device, headroom: float, memory_limit: int | None) -> int:
    """Bytes that this process may come to hold on the device."""
    if memory_limit is not None:
        return memory_limit
    empty_cache(device)
    figures = memory_figures(device)
    return int((figures.free + (figures.reserved or 0)) * (1 - headroom))


@dataclass
class _Search:
    model: torch.nn.Module
    make_batch: Callable[[int], Any]
    device: torch.device
    step: Step
    autocast: Autocast | None
    limit: int
    on_trial: Callable[[BatchTrial], None] | None
    last_failure: str = ""

    def __post_init__(self) -> None:
        self._measured: list[tuple[int, int]] = []

    def run(self, minimum: int, maximum: int) -> int:
        if not self._fits(minimum):
            import torch

            raise torch.OutOfMemoryError(
                f"not even a batch of {minimum} fits on {self.device}: {self.last_failure}. "
                "Take a smaller model, a lower precision or shorter samples, or checkpoint activations."
            )
        good, bad = minimum, maximum + 1
        while good < maximum and bad > maximum:
            size = min(good * 2, maximum)
            if self._fits(size):
                good = size
            else:
                bad = size
        while bad - good > 1:
            middle = (good + bad) // 2
            if self._fits(middle):
                good = middle
            else:
                bad = middle
        return good

    def _fits(self, size: int) -> bool:
        trial = self._try(size)
        if self.on_trial:
            self.on_trial(trial)
        return trial.fits

    def _try(self, size: int) -> BatchTrial:
        expected = self._expected(size)
        if expected is not None and expected > self.limit:
            self.last_failure = f"it would take about {show_bytes(expected)} of {show_bytes(self.limit)}"
            return BatchTrial(size, fits=False, peak_bytes=None, seconds=None)
        began = time.perf_counter()
        try:
            peak = self._peak(size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.last_failure = str(error).partition("\n")[0]
            release_frames(error)
            peak = None
        finally:
            for parameter in self.model.parameters():
                parameter.grad = None
        if peak is None:
            empty_cache(self.device)
            return BatchTrial(size, fits=False, peak_bytes=None, seconds=None)
        self._measured.append((size, peak))
        if peak > self.limit:
            self.last_failure = f"it takes {show_bytes(peak)} of {show_bytes(self.limit)}"
        return BatchTrial(size, peak <= self.limit, peak, time.perf_counter() - began)

    def _peak(self, size: int) -> int:
        def work() -> None:
            batch = move_to_device(self.make_batch(size), self.device)
            if self.autocast is None:
                self.step(self.model, batch)
            else:
                with self.autocast():
                    self.step(self.model, batch)

        weights = bytes_of(tensors_in([*self.model.parameters(), *self.model.buffers()]))
        return measure_peak(work, self.device, resident=weights).reserved

    def _expected(self, size: int) -> float | None:
        """Bytes by a line through the last two trials, or in proportion to the first; only where a trial could kill."""
        if self.device.type != "cpu" or not self._measured:
            return None
        last_size, last_peak = self._measured[-1]
        if len(self._measured) == 1:
            return last_peak * size / last_size
        before_size, before_peak = self._measured[-2]
        return last_peak + (last_peak - before_peak) / (last_size - before_size) * (size - last_size)
