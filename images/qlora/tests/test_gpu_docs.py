"""The guide's code and the example, on every kind of device."""

import os
import re
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from tunestack_train.gpu import mock

PACKAGE = Path(__file__).resolve().parents[1]
# In the container of `npm test` they are mounted beside the package, in a clone they lie further up.
DOCS, EXAMPLES = (
    next(folder / name for folder in PACKAGE.parents if (folder / name / known).is_file())
    for name, known in (("docs", "gpu.md"), ("examples", "gpu_training.py"))
)
GUIDE = (DOCS / "gpu.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE, flags=re.DOTALL | re.MULTILINE)
simulated = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU: the mock steps aside there")


def quiet(_: str) -> None:
    pass


def old_gpu() -> AbstractContextManager[Any]:
    return mock.simulate_cuda([mock.SimulatedGPU(compute_capability=(7, 5), total_memory=64 << 20)], notice=quiet)


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(nullcontext, id="cpu"),
        pytest.param(old_gpu, id="cuda", marks=simulated),
        pytest.param(lambda: mock.simulate_mps(notice=quiet), id="mps"),
    ],
)
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_guides_code_runs(number: int, there: Any) -> None:
    code = compile(BLOCKS[number], f"docs/gpu.md, block {number + 1} of Python", "exec")
    alone = "mock." in BLOCKS[number]  # it simulates devices of its own
    with nullcontext() if alone else there():
        exec(code, {"__name__": "guide"})


def test_the_guide_has_code_for_each_part() -> None:
    assert len(BLOCKS) >= 9
    code = "\n".join(BLOCKS)
    parts = ("get_gpu_manager", "setup_device", "gpu_memory_guard", "move_to_device", "optimal_batch_size")
    assert [part for part in (*parts, "profile", "optimize_for_inference", "simulate_cuda") if part not in code] == []


def test_the_guides_table_has_every_setting_with_its_default() -> None:
    from dataclasses import fields

    from tunestack_train.gpu import GPUConfig

    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", GUIDE, flags=re.MULTILINE))
    assert rows == {field.name: str(field.default) for field in fields(GPUConfig)}


def example(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments, "--steps", "60", "--largest-batch", "32"]
    environment = os.environ | {"PYTHONPATH": str(PACKAGE / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)


@pytest.mark.parametrize(
    ("simulation", "device", "dtype"),
    [
        pytest.param((), "cpu", "", marks=simulated),
        pytest.param(("--no-bf16", "--gpus=2"), "cuda:0", "torch.float16", marks=simulated),
        pytest.param(("--mps",), "mps", "torch.bfloat16"),
    ],
)
def test_the_example_learns_on_every_device(simulation: tuple[str, ...], device: str, dtype: str) -> None:
    script = str(EXAMPLES / "gpu_training.py")
    done = example("-m", "tunestack_train.gpu.mock", *simulation, script) if simulation else example(script)
    assert done.returncode == 0, done.stderr
    assert f"device: {device} (" in done.stdout
    assert f"mixed precision: {dtype}" in done.stdout
    assert "batch size: 32\n" in done.stdout
    loss = re.search(r"loss: (\d\.\d+) -> (\d\.\d+) in 60 steps", done.stdout)
    assert loss is not None
    assert float(loss[2]) < 0.2 < float(loss[1])
    accuracy = re.search(r"accuracy on 256 new images: (\d+)%", done.stdout)
    assert accuracy is not None
    assert int(accuracy[1]) > 95
    assert done.stdout.count("samples/s") == 2
    assert done.stderr.count("gpu.mock") == (1 if simulation else 0)
