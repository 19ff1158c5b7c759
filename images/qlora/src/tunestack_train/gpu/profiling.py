"""How fast a model is and how much memory it takes."""

from __future__ import annotations

import contextlib
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .choice import resolve_device
from .info import device_of
from .memory import show_bytes, synchronize
from .peak import bytes_of, measure_peak
from .steps import Autocast, Step, batch_size_of, borrowed, inference_step, tensors_in, training_step
from .transfer import move_to_device

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Profile:
    """What `profile_model` measured. Latencies are of one step with a batch of `batch_size`, in milliseconds."""

    device: str
    batch_size: int
    iterations: int
    training: bool
    parameters: int
    throughput_samples_per_sec: float
    latency_ms_mean: float
    latency_ms_min: float
    latency_ms_p50: float
    latency_ms_p90: float
    latency_ms_p99: float
    latency_ms_max: float
    peak_memory_bytes: int
    """Most bytes in tensors at once, weights and inputs included."""
    peak_memory_source: str
    """By what means that is known: it differs between devices."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{'training' if self.training else 'inference'} on {self.device}, batch {self.batch_size}: "
            f"{self.throughput_samples_per_sec:.1f} samples/s, latency p50 {self.latency_ms_p50:.2f} ms, "
            f"p90 {self.latency_ms_p90:.2f} ms, p99 {self.latency_ms_p99:.2f} ms, "
            f"peak memory {show_bytes(self.peak_memory_bytes)} ({self.peak_memory_source})"
        )


def profile_model(  # noqa: PLR0913 - each has a meaning of its own and a default
    model: torch.nn.Module,
    inputs: Any,
    device: torch.device | str | None = None,
    *,
    training: bool = False,
    step: Step | None = None,
    autocast: Autocast | None = None,
    iterations: int = 50,
    warmup: int = 10,
    batch_size: int | None = None,
) -> Profile:
    """Times `iterations` steps of `model` on `device` (where it is, by default) after `warmup` that do not count.

    `inputs` is a batch: a tensor, a tuple of positional or a mapping of keyword arguments. A step is a forward pass,
    with `training` forward and backward, or `step(model, inputs)`. Each latency is that of a step alone, the device
    idle before and after it; throughput is that of steps one after another. Memory is measured in a step of its own,
    so that it slows no other. The model is moved to `device`; its mode, gradients and buffers are left as they were.

    Raises ValueError for counts that cannot be.
    """
    if iterations < 2 or warmup < 0:
        raise ValueError(f"iterations = {iterations}, warmup = {warmup}: give at least 2 and at least 0")
    target = device_of(model) if device is None else resolve_device(device)
    model.to(target)
    batch = move_to_device(inputs, target)
    size = batch_size_of(batch) if batch_size is None else batch_size
    chosen = step or (training_step if training else inference_step)

    def work() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        with autocast() if autocast else contextlib.nullcontext():
            chosen(model, batch)

    weights = [*model.parameters(), *model.buffers()]
    with borrowed(model, training=training):
        for _ in range(warmup):
            work()
        latencies = _latencies(work, target, iterations)
        # A CPU has nothing to overlap; a GPU takes the next step while it still works on this one.
        seconds = sum(latencies) if target.type == "cpu" else _back_to_back(work, target, iterations)
        peak = measure_peak(work, target, resident=bytes_of(tensors_in([*weights, batch])))
    percentiles = statistics.quantiles(latencies, n=100, method="inclusive")
    return Profile(
        device=str(target),
        batch_size=size,
        iterations=iterations,
        training=training,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        throughput_samples_per_sec=size * iterations / seconds,
        latency_ms_mean=statistics.fmean(latencies) * 1e3,
        latency_ms_min=min(latencies) * 1e3,
        latency_ms_p50=percentiles[49] * 1e3,
        latency_ms_p90=percentiles[89] * 1e3,
        latency_ms_p99=percentiles[98] * 1e3,
        latency_ms_max=max(latencies) * 1e3,
        peak_memory_bytes=peak.allocated,
        peak_memory_source=peak.source,
    )


def _latencies(work: Any, device: torch.device, iterations: int) -> list[float]:
    seconds = []
    for _ in range(iterations):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    return seconds


def _back_to_back(work: Any, device: torch.device, iterations: int) -> float:
    synchronize(device)
    began = time.perf_counter()
    for _ in range(iterations):
        work()
    synchronize(device)
    return time.perf_counter() - began
