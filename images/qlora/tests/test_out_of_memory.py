"""When memory runs out: steps done again in smaller parts, by real runs into which the shortage is put by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Workplace
from tunestack_train.errors import OutOfMemoryError
from tunestack_train.logs import read_metrics
from tunestack_train.out_of_memory import SmallerParts, out_of_memory_named
from tunestack_train.presets import Value
from tunestack_train.record import halvings
from tunestack_train.resolve import Layer, resolve

# Nothing random and nothing rounded in the model, so that only the order of sums differs.
EXACT: dict[str, Value] = {
    "max_steps": 4,
    "save_steps": 2,
    "lora_r": 8,
    "lora_dropout": 0.0,
    "load_in_4bit": False,
    "precision": "float32",
    "optim": "adamw_torch",
    "per_device_train_batch_size": 5,
    "gradient_accumulation_steps": 2,
}


class Shortage:
    """A device on which passes of more than `most` sequences run out of memory, in their backward passes.

    From the pass `after` on. `seen` lists what has been passed without running out: sequences, and their tokens.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int, after: int = 3) -> None:
        from transformers import Trainer

        self.sizes: list[int] = []
        passes = 0
        original = Trainer.training_step

        def step(trainer: Any, model: Any, inputs: dict[str, torch.Tensor], *rest: Any) -> torch.Tensor:
            nonlocal passes
            passes += 1
            size = len(inputs["input_ids"])
            loss = original(trainer, model, inputs, *rest)
            if passes > after and size > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            self.sizes.append(size)
            return loss

        monkeypatch.setattr(Trainer, "training_step", step)


def losses(workplace: Workplace, name: str) -> list[float]:
    entries = read_metrics(workplace.folders.logs / name / "metrics.jsonl")
    return [float(str(entry["loss"])) for entry in entries]


def figures(workplace: Workplace, name: str, figure: str) -> list[object]:
    return [entry[figure] for entry in read_metrics(workplace.folders.logs / name / "metrics.jsonl")]


@pytest.fixture(scope="module")
def roomy(workplace: Workplace) -> list[float]:
    workplace.run_here("roomy", **EXACT)
    return losses(workplace, "roomy")


def test_a_run_goes_on_in_smaller_parts_and_learns_the_same(
    workplace: Workplace, roomy: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    shortage = Shortage(monkeypatch, most=3)
    finished, said = workplace.run_here("short", **EXACT)
    # Step 1 as asked for; in step 2 the second pass runs out, and both passes are done again in parts.
    assert shortage.sizes == [5, 5, 5, *[3, 2] * 2, *[3, 2] * 4]
    assert finished.steps == 4
    assert losses(workplace, "short") == pytest.approx(roomy, abs=2e-5)
    assert figures(workplace, "short", "num_tokens") == figures(workplace, "roomy", "num_tokens")
    assert "note: memory ran out in step 2; it is done again in 4 passes of 3 sequences" in said
    assert "10 sequences in a step as before" in said
    assert "--set per_device_train_batch_size=3 --set gradient_accumulation_steps=4" in said

    noted = {"step": 2, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 4}
    assert halvings(finished.adapter) == [noted]
    status = json.loads((workplace.folders.logs / "short" / "status.json").read_text(encoding="utf-8"))
    assert (status["per_device_train_batch_size"], status["gradient_accumulation_steps"]) == (3, 4)


def test_the_parts_become_as_small_as_it_takes_and_stay_so_when_the_run_goes_on(
    workplace: Workplace, roomy: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    shortage = Shortage(monkeypatch, most=1, after=0)
    finished, _ = workplace.run_here("shorter", **EXACT)
    assert set(shortage.sizes) == {1}
    assert losses(workplace, "shorter") == pytest.approx(roomy, abs=2e-5)
    assert [each["per_device_train_batch_size"] for each in halvings(finished.adapter)] == [3, 2, 1]

    shutil.rmtree(finished.adapter)
    shutil.rmtree(finished.adapter.parent / "checkpoint-4")
    shortage.sizes.clear()
    _, said = workplace.run_here("shorter", **EXACT)
    assert "going on after step 2" in said
    assert shortage.sizes == [1] * 20
    assert losses(workplace, "shorter") == pytest.approx(roomy, abs=2e-5)


def test_one_sequence_that_does_not_fit_ends_the_run_with_advice(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    Shortage(monkeypatch, most=0)
    with pytest.raises(OutOfMemoryError) as caught:
        workplace.run_here("shortest", **EXACT)
    assert caught.value.exit_code == 4
    assert "the memory of the GPU is full: CUDA out of memory" in caught.value.message
    assert "--set max_length=128" in caught.value.remedy


def test_a_run_that_is_told_to_stop_stops(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    Shortage(monkeypatch, most=3)
    with pytest.raises(OutOfMemoryError, match="the memory of the GPU is full") as caught:
        workplace.run_here("told", **EXACT, on_oom="stop")
    assert "--set per_device_train_batch_size=2 --set gradient_accumulation_steps=4" in caught.value.remedy


def test_gradients_of_a_pass_that_failed_half_way_are_dropped() -> None:
    """Of a step of two passes, the first is done; the second leaves half of its gradients and fails."""
    weight = torch.nn.Parameter(torch.zeros(2))
    failing = [False, True]

    def one_pass(part: Any) -> torch.Tensor:
        rows = part["rows"]
        weight.grad = (torch.zeros(2) if weight.grad is None else weight.grad) + rows.sum(0) * torch.tensor([1.0, 0.0])
        if len(rows) == 4 and failing.pop(0):
            raise torch.OutOfMemoryError("full")
        weight.grad = weight.grad + rows.sum(0) * torch.tensor([0.0, 1.0])
        return rows.sum()

    def reset() -> None:
        weight.grad = None

    batches = [{"rows": torch.arange(8.0).reshape(4, 2) + 10 * number} for number in range(2)]
    halved: list[tuple[int, int]] = []
    parts = SmallerParts(4, lambda step, size: halved.append((step, size)))
    given = [parts.run(7, batch, one_pass, reset) for batch in batches]
    assert halved == [(7, 2)]
    assert [float(loss) for loss in given] == [float(batch["rows"].sum()) for batch in batches]
    assert weight.grad is not None
    assert weight.grad.tolist() == sum(batch["rows"].sum(0) for batch in batches).tolist()  # type: ignore[union-attr]


def test_what_cannot_be_taken_apart_is_not_tried_again() -> None:
    def one_pass(_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("full")

    parts = SmallerParts(4, lambda *_: pytest.fail("halved"))
    packed = {"input_ids": torch.zeros(1, 8), "position_ids": torch.zeros(1, 8)}
    uneven = {"input_ids": torch.zeros(4, 8), "lengths": torch.zeros(3)}
    for batch in (packed, uneven):
        with pytest.raises(torch.OutOfMemoryError):
            parts.run(0, batch, one_pass, lambda: None)


def test_other_errors_pass(tmp_path: Path) -> None:
    def one_pass(_: Any) -> torch.Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        SmallerParts(4, lambda *_: None).run(0, {"x": torch.zeros(4)}, one_pass, lambda: None)


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (MemoryError(), "the memory of this machine"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), "this machine"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "the memory of the GPU"),
        (RuntimeError("CUDA error: out of memory"), "the memory of the GPU"),
    ],
)
def test_what_is_full_is_named(error: Exception, named: str) -> None:
    config = resolve("full", "rehearsal", [Layer("test", {"data": "d"})]).config
    with pytest.raises(OutOfMemoryError, match=named), out_of_memory_named(config):
        raise error


def test_other_failures_are_left_as_they_are() -> None:
    config = resolve("full", "rehearsal", [Layer("test", {"data": "d"})]).config
    with pytest.raises(RuntimeError, match="shapes differ"), out_of_memory_named(config):
        raise RuntimeError("shapes differ")
