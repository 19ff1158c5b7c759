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
from tunestack_train.adapter import keep_in_float32
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
