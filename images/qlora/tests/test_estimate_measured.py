"""The estimate beside what real runs of small models keep in memory, counted from their tensors on the CPU."""

import shutil
from pathlib import Path

import pytest

from conftest import Workplace
from memory_tracing import counting, write_texts
from tunestack_train import rehearsal
from tunestack_train.data.load import load
from tunestack_train.estimate import architecture, memory
from tunestack_train.estimate.fit import expected_attention
from tunestack_train.presets import Value
from tunestack_train.resolve import Layer, resolve
from tunestack_train.run import Folders

SIZES = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, workplace: Workplace) -> Workplace:
    folder = tmp_path_factory.mktemp("measured")
    data = write_texts(folder / "texts.jsonl", 8)
    rehearsal.make_model(folder / "tokenizer", load(str(data), "auto").examples(), 1)
    return Workplace(Folders(folder / "checkpoints", folder / "logs", folder / "cache"), data)


def make_model(place: Workplace, family: str, vocabulary: int = rehearsal.VOCABULARY) -> Path:
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = place.data.parent / f"{family}-{vocabulary}"
    if not folder.exists():
        heads = {} if family == "phi3" else {"head_dim": 64}
        config = AutoConfig.for_model(family, vocab_size=vocabulary, **SIZES, **heads)
        AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(folder)
        for name in ("tokenizer.model", "tokenizer_config.json"):
            shutil.copyfile(place.data.parent / "tokenizer" / name, folder / name)
    return folder


CASES: list[tuple[str, dict[str, Value]]] = [
    ("gemma2", {}),
    ("gemma2", {"gradient_checkpointing": False, "lora_dropout": 0.0}),
    ("gemma3_text", {"gradient_checkpointing": False, "bnb_4bit_use_double_quant": False}),
    ("llama", {"precision": "float32", "load_in_4bit": False}),
    ("qwen2", {"lora_target_modules": "q_proj,v_proj", "optim": "adamw_torch"}),
    ("qwen3", {"gradient_checkpointing": False, "attn_implementation": "eager"}),
    ("phi3", {"gradient_checkpointing": False, "load_in_4bit": False}),
]


@pytest.mark.parametrize(("family", "settings"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_the_estimate_is_near_what_a_real_run_keeps(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, family: str, settings: dict[str, Value]
) -> None:
    folder = make_model(place, family)
    given: dict[str, Value] = {
        "model": str(folder),
        "max_steps": 2,
        "gradient_accumulation_steps": 1,
        "max_length": 192,
        "lora_r": 8,
        **settings,
    }
    # A narrow chunk: the loss of so small a model would otherwise hide what its layers take.
    monkeypatch.setattr("tunestack_train.loss_chunks._CHUNK_BYTES_ELSEWHERE", 1 << 18)
    with counting(monkeypatch) as counted:
        place.run_here(f"{family}-{len(settings)}-{CASES.index((family, settings))}", **given)
    assert counted.shapes == [(2, 192)]

    work = workload(folder, given)
    assert memory.weights(work) == counted.weights
    assert memory.adapter(work) == counted.adapter
    assert memory.optimiser(work) == counted.optimiser
    assert 0.99 < memory.activations(work) / counted.saved < 1.06
    # Too much by a quarter is a warning too early; too little by any is a run that ends after hours.
    assert 1.0 <= highest(work) / counted.highest < 1.25


@pytest.mark.parametrize("family", ["gemma2", "llama"])
def test_the_loss_over_a_large_vocabulary_is_what_it_is_estimated_at(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    folder = make_model(place, family, 32768)
    given: dict[str, Value] = {
        "model": str(folder),
        "max_steps": 2,
        "gradient_accumulation_steps": 1,
        "max_length": 192,
        "lora_r": 8,
    }
    with counting(monkeypatch) as counted:
        place.run_here(f"{family}-vocabulary", **given)
    work = workload(folder, given)
    assert "loss" in {part.name for part in memory.parts(work)}
    assert 1.0 <= highest(work) / counted.highest < 1.25


def workload(folder: Path, given: dict[str, Value]) -> memory.Workload:
    config = resolve("r", "rehearsal", [Layer("test", {"data": "d", **given})]).config
    shape = architecture.read(folder)
    attention = expected_attention(config.attn_implementation, shape, "cpu", config.precision)
    return memory.Workload(shape, config, attention, "cpu")


def highest(work: memory.Workload) -> int:
    """What a step adds to what is there before it: all that passes, and the gradients."""
    passing = sum(part.size for part in memory.parts(work) if part.name in ("activations", "loss", "backward pass"))
    return passing + memory.adapter(work)
