"""How long a run takes: the operations of its steps over what the device computes in a second."""

from dataclasses import dataclass
from math import ceil
from typing import Final

from tunestack_train.estimate.architecture import Architecture
from tunestack_train.settings import RunConfig

ASSUMED_UTILISATION: Final = 0.3
"""Share of the tensor cores' throughput that a QLoRA step is taken to reach. An assumption: none was measured here."""


@dataclass(frozen=True)
class Duration:
    """`tokens_per_second` counts padding too. `source` says where the speed comes from, for people."""

    seconds: float
    steps: int
    tokens_per_step: int
    tokens_per_second: float
    source: str


def steps(config: RunConfig, examples: int | None) -> int | None:
    """Optimiser steps of a run on one device; None when they depend on the data and that is not known."""
    if config.max_steps:
        return config.max_steps
    if examples is None:
        return None
    batches = ceil(examples / config.per_device_train_batch_size)
    return ceil(config.num_train_epochs * max(1, ceil(batches / config.gradient_accumulation_steps)))


def operations(architecture: Architecture, config: RunConfig, sequence: int) -> float:
    """Floating-point operations for each token of a sequence of that length, forward and backward.

    Two for each weight in the forward pass, two for the gradients of the inputs, and two more where gradient
    checkpointing does the forward pass again; frozen weights get no gradients of their own. (Kaplan et al. 2020,
    https://arxiv.org/abs/2001.08361, section 2.1, without the third of the backward pass that full training has.)
    """
    scores = 4 * sequence * architecture.heads * architecture.head_width * architecture.layers
    layers = 2 * architecture.linear_weights + scores
    output = 2 * architecture.vocabulary * architecture.hidden
    again = 1 if config.gradient_checkpointing else 0
    return layers * (2 + again) + output * 3


def by_throughput(architecture: Architecture, config: RunConfig, sequence: int, count: int, flops: float) -> Duration:
    """Duration of `count` steps of sequences of `sequence` tokens, at a device's published operations a second."""
    per_token = operations(architecture, config, sequence)
    speed = flops * ASSUMED_UTILISATION / per_token
    tokens = config.per_device_train_batch_size * config.gradient_accumulation_steps * sequence
    source = f"assumed: {ASSUMED_UTILISATION:.0%} of {flops / 1e12:g} TFLOPS"
    return Duration(count * tokens / speed, count, tokens, speed, source)
