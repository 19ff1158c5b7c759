"""A step learns what TRL's own learns: loss, gradients and figures, under gradient accumulation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from test_loss import VOCABULARY, tiny
from tunestack_train import rehearsal
from tunestack_train.adapter import QuickDropout, drop_quickly, keep_in_float32
from tunestack_train.batches import Collator
from tunestack_train.data.examples import Example, Text
from tunestack_train.data.tokens import IGNORED
from tunestack_train.learning import LearningTrainer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tokenizer")
    texts: list[Example] = [Text(f"row {number}", f"a text of some words, number {number}") for number in range(20)]
    rehearsal.make_model(folder, iter(texts), 0)
    return AutoTokenizer.from_pretrained(folder)


def rows() -> Dataset:
    chance = torch.Generator().manual_seed(3)
    ids = [torch.randint(3, VOCABULARY, (length,), generator=chance).tolist() for length in (5, 11, 3, 8, 14, 6, 9, 4)]
    return Dataset.from_dict({"input_ids": ids, "labels": [[IGNORED, IGNORED, *row[2:]] for row in ids]})


def train(kind: type[SFTTrainer], folder: Path, tokenizer: Any, precision: str, **more: Any) -> list[dict[str, float]]:
    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=3,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        logging_steps=1,
        bf16=precision == "bf16",
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
    )
    trainer = kind(
        model=tiny("gemma2", final_logit_softcapping=5.0, vocab_size=len(tokenizer)),
        args=arguments,
        train_dataset=rows(),
        processing_class=tokenizer,
        **more,
    )
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(("precision", "near"), [("float32", 1e-4), ("bf16", 2e-2)])
def test_steps_and_figures_are_those_of_trl(tmp_path: Path, tokenizer: Any, precision: str, near: float) -> None:
    theirs = train(SFTTrainer, tmp_path / "theirs", tokenizer, precision)
    collator = Collator(tokenizer.pad_token_id, flatten=False)
    ours = train(LearningTrainer, tmp_path / "ours", tokenizer, precision, data_collator=collator)
    assert len(ours) == len(theirs) == 3
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        assert one["num_tokens"] == other["num_tokens"]
        for name in ("loss", "grad_norm"):
            assert one[name] == pytest.approx(other[name], rel=near), name
    # TRL takes the mean of the passes' means, we that of all tokens: they meet where passes have as many.
    assert ours[0]["entropy"] == pytest.approx(theirs[0]["entropy"], rel=0.05)


def test_an_evaluation_takes_the_mean_of_its_tokens_and_can_give_logits(tmp_path: Path, tokenizer: Any) -> None:
    arguments = SFTConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        report_to="none",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
    )
    collator = Collator(tokenizer.pad_token_id, flatten=False)
    trainer = LearningTrainer(
        model=tiny("gemma2", vocab_size=len(tokenizer)),
        args=arguments,
        data_collator=collator,
        train_dataset=rows(),
        processing_class=tokenizer,
    )
    trainer.model.eval()
    batch = collator([rows()[0], rows()[1]])
    with torch.no_grad():
        loss, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    assert outputs.logits.shape == (2, 11, len(tokenizer))
    scores = outputs.logits[:, :-1].flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(scores, batch["labels"][:, 1:].flatten(), ignore_index=IGNORED)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert "token_counts" in batch, "the caller's batch is left as it was"


def test_an_adapter_is_kept_in_float32_and_computed_in_bf16() -> None:
    model = get_peft_model(tiny("gemma2").to(torch.bfloat16), LoraConfig(target_modules="all-linear", lora_dropout=0.5))
    keep_in_float32(model)
    seen: set[torch.dtype] = set()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(input_ids=torch.arange(8).unsqueeze(0)).logits.float().square().mean().backward()
    assert seen == {torch.bfloat16}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained
    for parameter in trained:
        assert parameter.grad is not None
        assert (parameter.dtype, parameter.grad.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.99])
def test_quick_dropout_keeps_as_many_and_the_same_mean(p: float) -> None:
    torch.manual_seed(0)
    given = torch.ones(3, 7, 9_999, requires_grad=True)
    kept = QuickDropout(p)(given)
    kept.sum().backward()
    assert (kept == 0).float().mean().item() == pytest.approx(p, abs=0.003)
    assert kept.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-3)
    assert given.grad is not None
    assert torch.equal(given.grad, kept.detach())
    # Neighbours share a random number, and yet go by themselves.
    dropped = (kept.detach() == 0).float().flatten()
    for distance in (1, 2, 3, 4):
        both = (dropped[distance:] * dropped[:-distance]).mean().item()
        assert both == pytest.approx(p * p, abs=0.005), distance


def test_quick_dropout_follows_the_seed_and_is_still_outside_training() -> None:
    given, dropout = torch.randn(5, 3), QuickDropout(0.5)
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(dropout(given))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert torch.equal(dropout.eval()(given), given)
    assert torch.equal(QuickDropout(0.0)(given), given)


def test_a_model_on_a_cpu_gets_quick_dropout_for_its_adapter_alone() -> None:
    model = get_peft_model(tiny("gemma2"), LoraConfig(target_modules="all-linear", lora_dropout=0.25))
    count = sum(isinstance(module, torch.nn.Dropout) for module in model.modules())
    drop_quickly(model)
    quick = [module for module in model.modules() if isinstance(module, QuickDropout)]
    assert len(quick) == count > 0
    assert {module.p for module in quick} == {0.25}
