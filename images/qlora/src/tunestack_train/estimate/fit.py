"""Whether a run fits into a device's memory, how long it takes, and which settings would fit if it does not."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tunestack_train.attention import AttentionNeeds, decide
from tunestack_train.device import Device
from tunestack_train.estimate.architecture import Architecture
from tunestack_train.estimate.duration import Duration, by_throughput, steps
from tunestack_train.estimate.gpus import Gpu, installed, named
from tunestack_train.estimate.memory import Part, Workload, parts
from tunestack_train.presets import Value
from tunestack_train.settings import RunConfig
from tunestack_train.sharding import FSDP

_SHORTEST: Final = 128


@dataclass(frozen=True)
class Machine:
    """What a run is estimated for. `kind` is PyTorch's type of device; memory in bytes."""

    name: str
    kind: str
    memory: int
    gpu: Gpu | None
    processes: int = 1
    """That train one run, each with a device like this one."""


@dataclass(frozen=True)
class Advice:
    """Settings to change, and the bytes that the run would take with them."""

    settings: Mapping[str, Value]
    size: int
    fits: bool

    @property
    def arguments(self) -> str:
        return " ".join(f"--set {key}={str(value).lower()}" for key, value in self.settings.items())


@dataclass(frozen=True)
class Estimate:
    """`duration` is None where the device's throughput or the number of steps is not known."""

    machine: Machine
    architecture: Architecture
    parts: tuple[Part, ...]
    duration: Duration | None

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def verdict(self) -> str:
        """`fits`, `tight` (only without what is assumed) or `too large` (what is counted exceeds the memory)."""
        if self.size <= self.machine.memory:
            return "fits"
        counted = sum(part.size for part in self.parts if part.certain)
        return "tight" if counted <= self.machine.memory else "too large"


def on_gpu(gpu: Gpu) -> Machine:
    return Machine(gpu.key, "cuda", gpu.memory, gpu)


def here(wanted: str) -> Machine:
    """This machine as a run with device `wanted` would find it, without asking PyTorch."""
    found = [gpu for gpu in map(named, installed()) if gpu is not None]
    if wanted in ("auto", "cuda") and found:
        return on_gpu(found[0])
    return Machine("the memory of this machine", "mps" if wanted == "mps" else "cpu", _memory_of_machine(), None)


def of_device(device: Device) -> Machine:
    """The machine of a device that a run has chosen."""
    if device.total_memory is None:
        return here(device.kind)
    return Machine(device.name, device.kind, device.total_memory, named(device.name))


def estimate(
    config: RunConfig,
    architecture: Architecture,
    machine: Machine,
    *,
    examples: int | None = None,
    sequence: int | None = None,
) -> Estimate:
    """Memory and time of a run. `examples` in the data; `sequence`: mean length in tokens, the longest if unknown."""
    work = _workload(config, architecture, machine)
    count = steps(config, examples)
    duration = None
    if count is not None and machine.gpu is not None:
        length = min(sequence or config.max_length, config.max_length)
        duration = by_throughput(architecture, config, length, count, machine.gpu.flops)
    return Estimate(machine, architecture, parts(work), duration)


def advice(config: RunConfig, architecture: Architecture, machine: Machine) -> tuple[Advice, ...]:
    """Changes that take less memory, each with those before it, up to the first that fits; what costs least first."""
    given: list[Advice] = []
    changed: dict[str, Value] = {}
    current = config
    for change in _changes(config, machine.processes):
        changed |= change
        current = replace(current, **change)  # type: ignore[arg-type] # the values of _changes have their fields' types
        found = estimate(current, architecture, machine)
        given.append(Advice(dict(changed), found.size, found.verdict == "fits"))
        if found.verdict == "fits":
            break
    return tuple(given)


def _changes(config: RunConfig, processes: int) -> Iterator[Mapping[str, Value]]:
    """First what leaves the result as it is, then what changes it a little, then what changes what is learnt."""
    if not config.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    if processes > 1 and config.distributed != FSDP:
        yield {"distributed": FSDP}
    size, accumulation = config.per_device_train_batch_size, config.gradient_accumulation_steps
    while size > 1:
        total = size * accumulation
        size //= 2
        if total % size == 0:
            accumulation = total // size
            yield {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation}
    if not config.load_in_4bit:
        yield {"load_in_4bit": True}
    if config.optim == "adamw_torch":
        yield {"optim": "adamw_8bit"}
    length = config.max_length
    while length // 2 >= _SHORTEST:
        length //= 2
        yield {"max_length": length}
    if config.lora_r > 8:
        yield {"lora_r": 8}


def _workload(config: RunConfig, architecture: Architecture, machine: Machine) -> Workload:
    attention = expected_attention(config.attn_implementation, architecture, machine.kind, config.precision)
    return Workload(architecture, config, attention, machine.kind, machine.processes)


def expected_attention(wanted: str, architecture: Architecture, kind: str, precision: str) -> str:
    """The kernel that a run will choose, as far as the model's config tells and with the packages that are here."""
    if wanted != "auto":
        return wanted
    capped = architecture.capped_attention
    needs = AttentionNeeds(
        architecture.family,
        caps_scores=capped,
        dropout=False,
        largest_head=architecture.head_width,
        sdpa=not capped,
        flash=True,
        flex=True,
    )
    return decide("auto", needs, Device(kind, kind, None), precision).name


def _memory_of_machine() -> int:
    """Bytes that this process may use: the container's limit where there is one, else the machine's memory."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if re.fullmatch(r"\d+", text):
            return min(total, int(text))
    return total
