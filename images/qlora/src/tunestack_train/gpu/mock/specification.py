"""What a simulated device pretends to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SimulatedGPU:
    """A GPU that is not there. Raises ValueError with every problem when a value cannot be."""

    name: str = "Simulated GPU"
    total_memory: int = 24 << 30
    """Bytes. More than that in tensors raises torch.OutOfMemoryError, as on the real one."""
    used_by_others: int = 0
    """Bytes that other processes hold, and which are therefore not free."""
    compute_capability: tuple[int, int] = (8, 9)
    """bf16 came with (8, 0). MPS has none and goes by `bf16`."""
    bf16: bool | None = None
    """Whether the hardware has bf16; by compute capability unless given."""
    multiprocessors: int = 128

    def __post_init__(self) -> None:
        problems = []
        if self.total_memory <= 0:
            problems.append(f"total_memory = {self.total_memory}: give bytes above zero")
        if not 0 <= self.used_by_others <= self.total_memory:
            problems.append(f"used_by_others = {self.used_by_others}: give bytes from 0 to total_memory")
        if len(self.compute_capability) != 2 or min(self.compute_capability) < 0:
            problems.append(f"compute_capability = {self.compute_capability}: give two numbers, such as (8, 9)")
        if self.multiprocessors <= 0:
            problems.append(f"multiprocessors = {self.multiprocessors}: give a number above zero")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def has_bf16(self) -> bool:
        return self.compute_capability >= (8, 0) if self.bf16 is None else self.bf16
