"""GPUs that are not there, for code that was written for one.

    from tunestack_train.gpu import mock

    with mock.simulate_cuda():
        model = Model().cuda()

Or, for a script as it is: `python -m tunestack_train.gpu.mock script.py ARGUMENTS`. Where the machine has a real GPU,
both do nothing but say so. What is computed is right, what is timed is not. docs/gpu.md says what is not simulated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .activation import active_simulation, simulate
from .specification import SimulatedGPU

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from .simulation import Simulation

__all__ = ["SimulatedGPU", "is_simulated", "simulate_cuda", "simulate_mps"]


def simulate_cuda(
    gpus: int | Sequence[SimulatedGPU] = 1, *, notice: Callable[[str], None] | None = None
) -> AbstractContextManager[Simulation | None]:
    """A context in which PyTorch has CUDA devices, as many as `gpus` says or as it describes, computed on the CPU.

    It holds for the whole process, and for threads that are started in it. `notice` takes the one sentence that says
    what is going on; without it that goes to standard error, once. The context's value is None, and nothing is
    changed, where there is a real CUDA device. Raises ValueError without a single GPU.
    """
    specifications = [SimulatedGPU()] * gpus if isinstance(gpus, int) else list(gpus)
    if not specifications:
        raise ValueError(f"gpus = {gpus!r}: give at least one")
    return simulate("cuda", specifications, notice)


def simulate_mps(
    gpu: SimulatedGPU | None = None, *, notice: Callable[[str], None] | None = None
) -> AbstractContextManager[Simulation | None]:
    """As `simulate_cuda`, with Apple's GPU, of which a Mac has one."""
    return simulate("mps", [gpu or SimulatedGPU(name="Apple GPU")], notice)


def is_simulated(kind: str = "cuda") -> bool:
    """Whether devices of `kind` (`cuda`, `mps`) are simulated in this process now."""
    current = active_simulation()
    return current is not None and current.kind == kind
