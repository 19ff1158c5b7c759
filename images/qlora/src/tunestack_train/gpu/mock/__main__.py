"""`python -m tunestack_train.gpu.mock SCRIPT ARGUMENTS`: runs a script as it is, with a simulated GPU."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from . import SimulatedGPU, simulate_cuda, simulate_mps


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tunestack_train.gpu.mock",
        description="Runs a script that was written for a GPU where there is none. With a real GPU it just runs.",
    )
    parser.add_argument("--gpus", type=int, default=1, help="how many CUDA devices are simulated (default: 1)")
    parser.add_argument("--memory-gib", type=float, default=24.0, help="memory of each in GiB (default: 24)")
    parser.add_argument("--no-bf16", action="store_true", help="a GPU before Ampere, which has no bf16")
    parser.add_argument("--mps", action="store_true", help="Apple's GPU in place of CUDA")
    parser.add_argument("script", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="given to the script")
    given = parser.parse_args(arguments)
    if not given.script.is_file():
        parser.error(f"there is no file {given.script}")
    if given.gpus < 1 or given.memory_gib <= 0:
        parser.error(f"--gpus {given.gpus} --memory-gib {given.memory_gib}: give numbers above zero")
    gpu = SimulatedGPU(
        total_memory=int(given.memory_gib * (1 << 30)),
        compute_capability=(7, 5) if given.no_bf16 else (8, 9),
    )
    sys.argv = [str(given.script), *given.arguments]
    sys.path[0] = str(given.script.resolve().parent)
    with simulate_mps(gpu) if given.mps else simulate_cuda([gpu] * given.gpus):
        runpy.run_path(str(given.script), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
