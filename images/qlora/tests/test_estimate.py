"""The estimate of memory and time: its arithmetic, and how far it is from what real models take."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestack_train.cli import main
from tunestack_train.estimate import gpus
from tunestack_train.estimate.architecture import UnknownArchitecture, from_config, read
from tunestack_train.estimate.duration import steps
from tunestack_train.estimate.fit import Machine, advice, estimate, on_gpu
from tunestack_train.estimate.memory import Workload, adapter, optimiser, weights
from tunestack_train.estimate.models import KNOWN, known
from tunestack_train.resolve import Layer, resolve
from tunestack_train.settings import RunConfig

GEMMA_2B, GEMMA_9B = (from_config(KNOWN[f"google/gemma-2-{size}"]) for size in ("2b", "9b"))
RTX_4090 = on_gpu(gpus.find("rtx-4090"))


def config(preset: str, **settings: str | int | float | bool) -> RunConfig:
    return resolve("r", preset, [Layer("test", {"data": "d", **settings})]).config


@pytest.mark.parametrize("name", KNOWN)
def test_weights_are_counted_as_transformers_makes_them(name: str) -> None:
    """On the meta device, where the models of full size take no memory."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = dict(KNOWN[name])
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))
    model.tie_weights()
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert from_config(fields).parameters == counted


@pytest.mark.parametrize(("name", "billions"), [("google/gemma-2-2b", 2.61), ("google/gemma-2-9b", 9.24)])
def test_sizes_are_those_that_the_models_are_published_with(name: str, billions: float) -> None:
    assert from_config(KNOWN[name]).parameters / 1e9 == pytest.approx(billions, abs=0.01)


def test_adapters_are_counted_as_peft_makes_them() -> None:
    from accelerate import init_empty_weights
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    for name, targets in (("google/gemma-2-9b", "all-linear"), ("Qwen/Qwen3-8B", "q_proj,v_proj")):
        with init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**KNOWN[name]))
            chosen = targets if targets == "all-linear" else targets.split(",")
            model = get_peft_model(model, LoraConfig(r=32, target_modules=chosen, task_type="CAUSAL_LM"))
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        work = Workload(from_config(KNOWN[name]), config("gemma-9b", lora_target_modules=targets), "eager", "cuda")
        assert adapter(work) == trained * 4


def test_what_is_unknown_is_said_and_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(UnknownArchitecture, match="models of type mixtral are not counted"):
        from_config({"model_type": "mixtral", "hidden_size": 8})
    with pytest.raises(UnknownArchitecture, match="hidden_size = None where a number above zero is needed"):
        from_config({"model_type": "llama"})
    with pytest.raises(UnknownArchitecture, match="cannot be read"):
        read(tmp_path)
    assert known("google/gemma-2-2b-it") == KNOWN["google/gemma-2-2b"]
    assert known("google/gemma-3-1b-it") == KNOWN["google/gemma-3-1b-pt"]
    assert known("somebody/else") is None


@pytest.mark.parametrize(
    ("product", "key"),
    [
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Tesla T4", "t4"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA L4", "l4"),
    ],
)
def test_gpus_are_known_by_what_their_driver_calls_them(product: str, key: str | None) -> None:
    found = gpus.named(product)
    assert (None if found is None else found.key) == key


def test_the_installed_gpus_are_read_from_the_driver(tmp_path: Path) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   80\n")
    assert gpus.installed(tmp_path) == ("NVIDIA GeForce RTX 4090",)
    assert gpus.installed(tmp_path / "none") == ()


def test_keys_of_gpus_are_forgiving_and_wrong_ones_are_answered_with_the_list() -> None:
    assert gpus.find("NVIDIA RTX 4090") == gpus.find("rtx_4090") == gpus.find("rtx-4090")
    with pytest.raises(ValueError, match="'rtx-9999' is no known GPU; there are: t4, "):
        gpus.find("rtx-9999")


@given(
    size=st.integers(1, 16),
    length=st.integers(16, 4096),
    rank=st.integers(1, 128),
    checkpointing=st.booleans(),
    attention=st.sampled_from(["eager", "sdpa", "flash_attention_2"]),
)
def test_more_of_anything_never_takes_less(
    size: int, length: int, rank: int, checkpointing: bool, attention: str
) -> None:
    one = config(
        "gemma-2b",
        per_device_train_batch_size=size,
        max_length=length,
        lora_r=rank,
        gradient_checkpointing=checkpointing,
        attn_implementation=attention,
    )
    base = estimate(one, GEMMA_2B, RTX_4090).size
    for change in (
        {"per_device_train_batch_size": size + 1},
        {"max_length": length + 1},
        {"lora_r": rank + 1},
        {"load_in_4bit": False},
        {"optim": "adamw_torch"},
    ):
        assert estimate(replace(one, **change), GEMMA_2B, RTX_4090).size > base  # type: ignore[arg-type]
    assert estimate(one, GEMMA_9B, RTX_4090).size > base
    without = estimate(replace(one, gradient_checkpointing=False), GEMMA_2B, RTX_4090).size
    assert without >= estimate(replace(one, gradient_checkpointing=True), GEMMA_2B, RTX_4090).size


def test_the_scores_of_eager_attention_grow_with_the_square_of_the_length() -> None:
    def grown(attention: str) -> float:
        sizes = []
        for length in (8192, 16384):
            given = config("gemma-2b", per_device_train_batch_size=1, max_length=length, attn_implementation=attention)
            parts = estimate(given, GEMMA_2B, RTX_4090).parts
            sizes.append(next((part.size for part in parts if part.name == "backward pass"), 1))
        return sizes[1] / sizes[0]

    assert grown("eager") > 3.5
    assert grown("flash_attention_2") < 2.1


def test_the_presets_fit_into_the_gpu_that_they_are_laid_out_for() -> None:
    for preset, shape in (("gemma-2b", GEMMA_2B), ("gemma-9b", GEMMA_9B)):
        assert estimate(config(preset), shape, RTX_4090).verdict == "fits"


def test_advice_leads_to_settings_that_fit_and_keeps_the_batch() -> None:
    wanted = config("gemma-9b", max_length=4096, gradient_checkpointing=False, per_device_train_batch_size=8)
    assert estimate(wanted, GEMMA_9B, RTX_4090).verdict == "too large"
    found = advice(wanted, GEMMA_9B, RTX_4090)
    assert [item.fits for item in found] == [False] * (len(found) - 1) + [True]
    for item in found:
        changed = replace(wanted, **item.settings)  # type: ignore[arg-type]
        assert estimate(changed, GEMMA_9B, RTX_4090).size == item.size
        assert changed.per_device_train_batch_size * changed.gradient_accumulation_steps == 8 * 8
    assert "--set gradient_checkpointing=true" in found[-1].arguments


def test_odd_batches_are_halved_without_changing_what_a_step_sees() -> None:
    wanted = config("gemma-9b", per_device_train_batch_size=7, gradient_accumulation_steps=3, max_length=65536)
    for item in advice(wanted, GEMMA_9B, RTX_4090):
        changed = replace(wanted, **item.settings)  # type: ignore[arg-type]
        assert changed.per_device_train_batch_size * changed.gradient_accumulation_steps == 21


def test_steps_come_from_the_data_where_epochs_are_trained() -> None:
    epochs = config("custom", model="m", num_train_epochs=2)
    assert steps(epochs, 100) == 2 * 7  # 25 batches of 4, 4 of them in a step
    assert steps(epochs, None) is None
    assert steps(config("gemma-2b"), None) == 1000


def test_time_says_what_it_assumes() -> None:
    found = estimate(config("gemma-2b"), GEMMA_2B, RTX_4090, sequence=256).duration
    assert found is not None
    assert found.tokens_per_step == 4 * 4 * 256
    assert found.seconds == pytest.approx(1000 * found.tokens_per_step / found.tokens_per_second)
    assert "assumed: 30% of 165.2 TFLOPS" in found.source
    longer = estimate(config("gemma-2b"), GEMMA_2B, RTX_4090, sequence=512).duration
    assert longer is not None
    assert longer.seconds > 2 * found.seconds


def test_the_command_answers_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--preset=gemma-9b", "--gpu=t4", "--set=max_length=8192", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["preset"], told["model"], told["device"]) == ("gemma-9b", "google/gemma-2-9b", "t4")
    assert told["verdict"] == "too large"
    assert told["memory_bytes"] == sum(part["bytes"] for part in told["parts"]) > told["device_memory_bytes"]
    assert told["hours"] == told["seconds"] / 3600
    assert told["advice"][-1]["fits"]


def test_the_command_says_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--preset=gemma-9b", "--gpu=gtx-960"]) == 2
    assert "'gtx-960' is no known GPU; there are: t4, " in capsys.readouterr().err
    assert main(["estimate", "--model=./nowhere", "--gpu=t4"]) == 2
    assert "nothing is known of ./nowhere" in capsys.readouterr().err


def test_the_whole_model_in_16_bits_and_in_4() -> None:
    whole = Workload(GEMMA_9B, config("gemma-9b", load_in_4bit=False), "eager", "cuda")
    assert weights(whole) == 2 * GEMMA_9B.parameters
    quantised = weights(Workload(GEMMA_9B, config("gemma-9b"), "eager", "cuda"))
    # 4 bits and a 64th of a byte and a little for each weight; embeddings stay as they are.
    bits = (quantised - 2 * GEMMA_9B.other_weights) * 8 / GEMMA_9B.linear_weights
    assert 4.125 < bits < 4.14
    assert optimiser(whole) < adapter(whole)


def test_processes_share_the_layers_out_where_the_run_says_so() -> None:
    four = replace(RTX_4090, processes=4)
    whole = config("gemma-9b")
    shared = replace(whole, distributed="fsdp")

    def size(given: RunConfig, machine: Machine, name: str) -> int:
        return sum(part.size for part in estimate(given, GEMMA_9B, machine).parts if part.name == name)

    linear = size(whole, RTX_4090, "linear layers")
    assert size(whole, four, "linear layers") == size(shared, RTX_4090, "linear layers") == linear
    packed = GEMMA_9B.linear_weights // 2
    assert size(shared, four, "linear layers") == linear - packed * 3 // 4
    assert size(shared, four, "gathered layer") == 2 * packed // GEMMA_9B.layers
    assert size(shared, RTX_4090, "gathered layer") == 0
    assert size(shared, four, "embeddings, norms") == size(whole, RTX_4090, "embeddings, norms")


def test_advice_names_sharing_where_there_are_several_processes() -> None:
    small = replace(RTX_4090, memory=6 << 30)
    settings = [item.settings for item in advice(config("gemma-9b"), GEMMA_9B, replace(small, processes=2))]
    assert settings[0] == {"distributed": "fsdp"}
    assert not any("distributed" in item.settings for item in advice(config("gemma-9b"), GEMMA_9B, small))
