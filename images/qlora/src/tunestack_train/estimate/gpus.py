"""What GPUs have: memory and throughput, as their maker publishes it. No figure here was measured by this project."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

READ_ON: Final = "2026-11-24"
_INSTALLED: Final = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Gpu:
    """`product` matches what the driver calls it. `memory` is in bytes; `flops` are dense 16-bit operations a second of
    the tensor cores, accumulated in float32."""

    key: str
    product: str
    memory: int
    flops: float
    source: str


_GIB: Final = 1 << 30
_AMPERE: Final = "NVIDIA Ampere GA102 GPU architecture whitepaper"
_ADA: Final = "NVIDIA Ada GPU architecture whitepaper"
_BLACKWELL: Final = "NVIDIA RTX Blackwell GPU architecture whitepaper"

# Where a datasheet gives throughput with sparsity, half of it stands here.
GPUS: Final[tuple[Gpu, ...]] = (
    Gpu("t4", r"Tesla T4", 16 * _GIB, 65e12, "NVIDIA T4 datasheet"),
    Gpu("v100-16gb", r"Tesla V100-.*-16GB", 16 * _GIB, 125e12, "NVIDIA V100 datasheet"),
    Gpu("rtx-3090", r"GeForce RTX 3090", 24 * _GIB, 71e12, _AMPERE),
    Gpu("rtx-4090", r"GeForce RTX 4090", 24 * _GIB, 165.2e12, _ADA),
    Gpu("rtx-5090", r"GeForce RTX 5090", 32 * _GIB, 209.5e12, _BLACKWELL),
    Gpu("l4", r"L4", 24 * _GIB, 121e12, "NVIDIA L4 datasheet"),
    Gpu("l40s", r"L40S", 48 * _GIB, 362e12, "NVIDIA L40S datasheet"),
    Gpu("a10", r"A10", 24 * _GIB, 125e12, "NVIDIA A10 datasheet"),
    Gpu("a100-40gb", r"A100-.*-40GB", 40 * _GIB, 312e12, "NVIDIA A100 datasheet"),
    Gpu("a100-80gb", r"A100(-.*-80GB| 80GB PCIe)", 80 * _GIB, 312e12, "NVIDIA A100 datasheet"),
    Gpu("h100", r"H100 80GB HBM3", 80 * _GIB, 989e12, "NVIDIA H100 datasheet, SXM"),
    Gpu("h100-pcie", r"H100 PCIe", 80 * _GIB, 756e12, "NVIDIA H100 datasheet, PCIe"),
    Gpu("h200", r"H200", 141 * 10**9, 989e12, "NVIDIA H200 datasheet"),
)


def find(key: str) -> Gpu:
    """The GPU of a key such as `rtx-4090`. Raises ValueError naming those that there are."""
    wanted = re.sub(r"[\s_]+", "-", key.strip().lower()).removeprefix("nvidia-").removeprefix("geforce-")
    for gpu in GPUS:
        if gpu.key == wanted:
            return gpu
    raise ValueError(f"{key!r} is no known GPU; there are: {keys()}")


def named(product: str) -> Gpu | None:
    """The GPU that a driver calls `product`, such as `NVIDIA A100-SXM4-80GB`; None when it is not in the table."""
    name = product.strip().removeprefix("NVIDIA ")
    return next((gpu for gpu in GPUS if re.fullmatch(gpu.product, name)), None)


def installed(folder: Path = _INSTALLED) -> tuple[str, ...]:
    """What the driver calls the NVIDIA GPUs of this machine; empty without a driver. PyTorch is not asked."""
    names: list[str] = []
    for gpu in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            text = (gpu / "information").read_text(encoding="utf-8")
        except OSError:
            continue
        names += re.findall(r"^Model:\s*(.+?)\s*$", text, re.MULTILINE)
    return tuple(names)


def keys() -> str:
    return ", ".join(gpu.key for gpu in GPUS)
