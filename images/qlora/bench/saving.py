"""How long training waits for a checkpoint of the size that a LoRA of rank 32 on Gemma 2 2B has.

Side by side: the checkpoint written before training goes on, and in the background, where training waits for the copy
of its state alone. The state is copied from this machine's memory; how long a GPU's takes was not measured.
"""

import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from measures import Measure, report, say
from tunestack_train.checkpoint_writer import CheckpointWriter
from tunestack_train.checkpoints import find_resume_point
from tunestack_train.snapshot import ProcessState, Snapshot, copied, random_state

LAYERS, WIDTH, QUERIES, KEYS, INNER, RANK = 26, 2304, 2048, 1024, 9216, 32
ROUNDS = 5


def main() -> None:
    torch.set_num_threads(1)
    adapter = {name: torch.randn(shape) for name, shape in shapes().items()}
    # adamw_8bit: two states of a byte for each weight.
    optimizer = {"state": {name: states(weight) for name, weight in adapter.items()}}
    size = sum(weight.numel() for weight in adapter.values()) * (4 + 2)
    waited: dict[bool, list[float]] = {False: [], True: []}
    whole: list[float] = []
    with tempfile.TemporaryDirectory(prefix="tunestack-saving-") as folder:
        for round_ in range(ROUNDS):
            for background in (False, True):
                run = Path(folder) / f"{round_}-{background}"
                writer = CheckpointWriter(run, 3, lambda _: None, background=background)
                began = time.monotonic()
                snapshot = take(adapter, optimizer)
                writer.write(1, snapshot.write)
                waited[background].append(time.monotonic() - began)
                writer.wait()
                if background:
                    whole.append(time.monotonic() - began)
                if find_resume_point(run).checkpoint is None:
                    raise RuntimeError("the checkpoint is not complete")
                shutil.rmtree(run)
            say(f"round {round_ + 1}: waited {waited[False][-1]:.2f} s, in the background {waited[True][-1]:.2f} s")
    report(
        Measure("size of the state", size / 1e6, "MB"),
        Measure("training waits, checkpoint written first", median(waited[False]), "s"),
        Measure("training waits, checkpoint in the background", median(waited[True]), "s"),
        Measure("background / first", median(waited[True]) / median(waited[False]), "×", "<= 0.5"),
        Measure("until the checkpoint in the background is durable", median(whole), "s"),
    )


def shapes() -> dict[str, tuple[int, int]]:
    layers = {
        "q_proj": (WIDTH, QUERIES),
        "k_proj": (WIDTH, KEYS),
        "v_proj": (WIDTH, KEYS),
        "o_proj": (QUERIES, WIDTH),
        "gate_proj": (WIDTH, INNER),
        "up_proj": (WIDTH, INNER),
        "down_proj": (INNER, WIDTH),
    }
    found: dict[str, tuple[int, int]] = {}
    for layer in range(LAYERS):
        for name, (inputs, outputs) in layers.items():
            found[f"layers.{layer}.{name}.lora_A.weight"] = (RANK, inputs)
            found[f"layers.{layer}.{name}.lora_B.weight"] = (outputs, RANK)
    return found


def states(weight: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(weight.shape, dtype=torch.uint8) for name in ("state1", "state2")}


def take(adapter: dict[str, torch.Tensor], optimizer: dict[str, object]) -> Snapshot:
    state = ProcessState(1, random_state(several_processes=False), torch.zeros(()), 0, None, 0.0, False)  # noqa: FBT003
    return Snapshot(copied(adapter), copied(optimizer), {}, None, "{}\n", [state], {})


if __name__ == "__main__":
    main()
