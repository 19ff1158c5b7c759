"""What is held out, what it says of a run, and what it must not change."""

import json
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Workplace, conversations, write_jsonl
from tunestack_train.checkpoints import remove_old
from tunestack_train.errors import DataError
from tunestack_train.evaluation import batches, best_of, hold_out, summed_loss
from tunestack_train.export.source import choose_source
from tunestack_train.logs import read_metrics
from tunestack_train.manifest import checkpoints, write_manifest
from tunestack_train.presets import Value

SHORT: dict[str, Value] = {"max_steps": 8, "save_steps": 2, "save_total_limit": 2, "lora_r": 8}


def examples(rows: list[list[int]]) -> object:
    from datasets import Dataset

    return Dataset.from_dict({"input_ids": rows, "labels": rows})


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), min_size=30, max_size=80, unique_by=tuple),
    st.randoms(),
)
def test_the_split_goes_by_content_alone(rows: list[list[int]], random: object) -> None:
    try:
        split = hold_out(examples(rows), 0.3)  # type: ignore[arg-type]
    except DataError:
        return  # all on one side, by chance
    assert split.held_out is not None
    training, held_out = list(split.training["input_ids"]), list(split.held_out["input_ids"])
    assert sorted([*training, *held_out]) == sorted(rows)
    # Shuffled, doubled and with others beside them each stays on its side.
    shuffled = [*rows, *rows, [99, 99]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    again = hold_out(examples(shuffled), 0.3)  # type: ignore[arg-type]
    assert again.held_out is not None
    for row in again.held_out["input_ids"]:
        assert row in held_out or row == [99, 99]
    for row in again.training["input_ids"]:
        assert row in training or row == [99, 99]


def test_about_the_share_is_held_out_and_a_larger_one_holds_the_smaller() -> None:
    rows = [[number, number + 1] for number in range(2000)]
    small = hold_out(examples(rows), 0.1).held_out  # type: ignore[arg-type]
    large = hold_out(examples(rows), 0.3).held_out  # type: ignore[arg-type]
    assert small is not None
    assert large is not None
    assert 150 < len(small) < 250
    assert {tuple(row) for row in small["input_ids"]} < {tuple(row) for row in large["input_ids"]}
    assert hold_out(examples(rows), 0).held_out is None  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"of 1 examples none is held out, so there is nothing to evaluate"):
        hold_out(examples([[4, 5]]), 1e-9)  # type: ignore[arg-type]


def test_the_loss_counts_tokens_and_not_batches() -> None:
    import torch

    rows = [[1, 2, 3, 4, 5], [6, 7], [8, 9]]
    dataset = examples(rows)
    seen = [[row["input_ids"] for row in batch] for batch in batches(dataset, 2)]  # type: ignore[arg-type]
    assert seen == [rows[:2], rows[2:]]
    halves = [list(batches(dataset, 1, (rank, 2))) for rank in (0, 1)]  # type: ignore[arg-type]
    assert [len(half) for half in halves] == [2, 1]
    long = {"labels": torch.tensor([[-100, 2, 3, 4, 5]])}
    short = {"labels": torch.tensor([[-100, -100, 7, -100, -100]])}
    total = summed_loss([long, short], lambda batch: torch.tensor(1.0 if batch is long else 6.0))
    assert total.tolist() == [4 * 1.0 + 1 * 6.0, 5]


def checkpoint(run: Path, step: int, losses: dict[int, float]) -> Path:
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    history = [{"step": at, "eval_loss": loss} for at, loss in losses.items() if at <= step]
    history.append({"step": step, "loss": 0.1})  # type: ignore[dict-item]
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}), encoding="utf-8")
    write_manifest(folder)
    return folder


def test_the_best_checkpoint_is_never_removed(tmp_path: Path) -> None:
    losses = {2: 5.0, 4: 3.0, 6: 3.5, 8: 4.0, 10: 3.0, 12: 2.0}
    left = []
    for step in losses:
        checkpoint(tmp_path, step, losses)
        remove_old(tmp_path, 2)
        left.append([int(path.name.partition("-")[2]) for path in reversed(checkpoints(tmp_path))])
    assert left == [[2], [2, 4], [4, 6], [4, 6, 8], [4, 8, 10], [10, 12]]
    best = best_of(checkpoints(tmp_path))
    assert best is not None
    assert (best.checkpoint.name, best.eval_loss) == ("checkpoint-12", 2.0)
    assert best_of([]) is None
    assert best_of([checkpoint(tmp_path / "without", 3, {})]) is None


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("more") / "held-out.jsonl", conversations(80)[60:])


def test_a_run_evaluates_at_each_checkpoint_and_goes_on_with_the_same_split(workplace: Workplace) -> None:
    from test_training import interrupt, losses, status, weights

    settings = SHORT | {"eval_share": 0.2}
    whole, said = workplace.run_here("evaluated", **settings)
    assert "held out" in said
    metrics = read_metrics(workplace.folders.logs / "evaluated" / "metrics.jsonl")
    evaluated = [(entry["step"], entry["eval_loss"]) for entry in metrics if "eval_loss" in entry]
    assert [step for step, _ in evaluated] == [2, 4, 6, 8]
    assert float(str(evaluated[-1][1])) < float(str(evaluated[0][1]))
    told = status(workplace, "evaluated")
    assert (told["eval_loss"], told["best_step"]) == (
        evaluated[-1][1],
        min(evaluated, key=lambda one: float(str(one[1])))[0],
    )
    code, _ = interrupt(workplace, "evaluated-killed", 5, signal.SIGKILL, **settings)
    assert code == -signal.SIGKILL
    resumed, _ = workplace.run_here("evaluated-killed", **settings)
    assert weights(resumed) == weights(whole)
    assert losses(workplace, "evaluated-killed") == losses(workplace, "evaluated")
    chosen = choose_source(whole.adapter.parent, "best")
    assert "the best: evaluation loss" in chosen.why
    assert chosen.step == told["best_step"]


def test_an_evaluation_changes_nothing_of_the_training(workplace: Workplace, more: Path) -> None:
    from test_training import losses, weights

    plain, _ = workplace.run_here("not-evaluated", **SHORT)
    settings: dict[str, Value] = {"eval_data": str(more), "eval_steps": 3}
    watched, said = workplace.run_here("watched", **SHORT | settings)
    assert "20 examples of" in said
    assert weights(watched) == weights(plain)
    assert losses(workplace, "watched") == losses(workplace, "not-evaluated")


def test_the_loss_is_that_of_the_adapter_on_what_was_held_out(workplace: Workplace, more: Path) -> None:
    """Computed once more by transformers and PEFT alone, example by example, from the last checkpoint."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunestack_train.data.load import load
    from tunestack_train.data.tokens import encode

    settings: dict[str, Value] = {"eval_data": str(more), "load_in_4bit": False, "precision": "float32"}
    finished, _ = workplace.run_here("held-out-loss", **SHORT | settings)
    tokenizer = AutoTokenizer.from_pretrained(finished.adapter)
    base = AutoModelForCausalLM.from_pretrained(
        finished.adapter.parent / "model", attn_implementation="eager", dtype=torch.float32
    )
    model = PeftModel.from_pretrained(base, finished.adapter).eval()
    total = tokens = 0.0
    for example in encode(tokenizer, load(str(more), "auto").examples(), 256):
        labels = torch.tensor([example.labels])
        count = int((labels[:, 1:] != -100).sum())
        with torch.no_grad():
            total += float(model(input_ids=torch.tensor([example.input_ids]), labels=labels).loss) * count
        tokens += count
    metrics = read_metrics(workplace.folders.logs / "held-out-loss" / "metrics.jsonl")
    found = [entry["eval_loss"] for entry in metrics if "eval_loss" in entry][-1]
    assert found == pytest.approx(total / tokens, rel=1e-4)


def test_the_time_of_an_evaluation_counts_neither_for_speed_nor_for_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tunestack_train import watcher

    clock = iter([0.0, 0.0, 10.0, 60.0, 60.0])
    monkeypatch.setattr(watcher.time, "monotonic", lambda: next(clock))
    pace = watcher.Pace()
    pace.start(0)
    assert pace.interval(1000.0) == 100  # ten seconds
    pace.leave_out(40.0)
    assert pace.interval(2000.0) == 100  # fifty seconds, forty of them spent on evaluation
    assert pace.seconds_left(10, 20) == 20
