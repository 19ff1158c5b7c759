from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestack_train.errors import Problem, SettingsProblems
from tunestack_train.presets import DEFAULTS, PRESETS, Value
from tunestack_train.resolve import Layer, resolve
from tunestack_train.settings import SETTINGS, RunConfig, config_from


def settings(preset: str | None = "rehearsal", name: str = "my-run", **given_values: Value) -> RunConfig:
    values: dict[str, Value] = {"data": "data.jsonl", **given_values}
    return resolve(name, preset, [Layer("test", values)]).config


def problems(preset: str | None, *layers: Layer, name: str = "my-run") -> list[Problem]:
    with pytest.raises(SettingsProblems) as caught:
        resolve(name, preset, list(layers))
    return caught.value.problems


def test_the_table_of_settings_and_the_config_name_the_same_things() -> None:
    assert list(SETTINGS) == [field.name for field in fields(RunConfig)]


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "custom"])
def test_every_value_of_a_preset_has_the_type_of_its_field(preset: str) -> None:
    config = settings(preset)
    for field in fields(RunConfig):
        assert type(getattr(config, field.name)) is field.type, field.name


@pytest.mark.parametrize(
    ("preset", "model", "batch", "accumulation", "steps"),
    [
        ("gemma-2b", "google/gemma-2-2b", 4, 4, 1000),
        ("gemma-9b", "google/gemma-2-9b", 2, 8, 800),
        ("rehearsal", "rehearsal", 2, 2, 30),
    ],
)
def test_presets_are_those_of_the_design(preset: str, model: str, batch: int, accumulation: int, steps: int) -> None:
    config = settings(preset)
    assert (config.model, config.per_device_train_batch_size) == (model, batch)
    assert (config.gradient_accumulation_steps, config.max_steps) == (accumulation, steps)
    assert (config.precision, config.optim, config.gradient_checkpointing) == ("bf16", "adamw_8bit", True)
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert (config.lora_r, config.lora_target_modules) == (32, "all-linear")


def test_later_layers_win_and_every_value_knows_its_source() -> None:
    resolved = resolve(
        "my-run",
        "gemma-2b",
        [Layer("command line", {"data": "a.jsonl", "model": "google/gemma-2-9b"}), Layer("--set", {"lora_r": "8"})],
    )
    assert (resolved.config.model, resolved.config.lora_r, resolved.config.max_steps) == ("google/gemma-2-9b", 8, 1000)
    assert resolved.sources["model"] == "command line"
    assert resolved.sources["lora_r"] == "--set"
    assert resolved.sources["max_steps"] == "preset gemma-2b"
    assert resolved.sources["seed"] == "default"


def test_all_problems_are_reported_at_once() -> None:
    found = problems(
        "gemma-2c",
        Layer("--set", {"lora_rank": "8", "max_steps": "many", "learning_rate": "-1", "load_in_4bit": "perhaps"}),
        name="My Run",
    )
    by_path = {problem.path: problem for problem in found}
    assert set(by_path) == {
        "preset",
        "lora_rank",
        "max_steps",
        "learning_rate",
        "load_in_4bit",
        "name",
        "data",
    }
    assert "did you mean gemma-2b?" in by_path["preset"].remedy
    assert "did you mean lora_alpha?" in by_path["lora_rank"].remedy or "lora_r" in by_path["lora_rank"].remedy
    assert by_path["max_steps"].value == "'many'"
    assert "is not a whole number" in by_path["max_steps"].reason
    assert "from 0 to 10000000" in by_path["max_steps"].remedy
    assert "true or false" in by_path["load_in_4bit"].remedy


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("per_device_train_batch_size", "0", "is not between 1 and 4096"),
        ("per_device_train_batch_size", "2.5", "is not a whole number"),
        ("per_device_train_batch_size", True, "is not a whole number"),
        ("learning_rate", "nan", "is not a number"),
        ("learning_rate", "0", "is not above 0 and up to 10"),
        ("lora_dropout", "1", "is not between 0 and 0.99"),
        ("optim", "sgd", "is not one of the choices"),
        ("lora_target_modules", "q_proj,,k_proj", "cannot be used here"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_the_reason(key: str, value: Value, reason: str) -> None:
    (problem,) = problems("rehearsal", Layer("test", {"data": "d.jsonl"}), Layer("--set", {key: value}))
    assert problem.path == key
    assert reason in problem.reason
    assert problem.remedy


def test_a_custom_run_needs_a_model_and_data() -> None:
    assert [problem.path for problem in problems(None)] == ["data", "model"]
    config = settings(None, model="some/model")
    assert (config.preset, config.max_steps, config.num_train_epochs) == ("custom", 0, 3.0)


def test_settings_that_contradict_each_other_are_refused() -> None:
    (half,) = problems("gemma-2b", Layer("test", {"data": "d", "precision": "fp16", "device": "cpu"}))
    assert half.path == "precision"


@pytest.mark.parametrize("key", SETTINGS)
def test_a_setting_without_a_default_is_one_that_every_run_must_be_given(key: str) -> None:
    assert (key in DEFAULTS) == (key not in ("name", "preset", "model", "data"))


@given(
    st.integers(0, 10_000_000),
    st.floats(1e-9, 10, allow_nan=False),
    st.booleans(),
    st.sampled_from(["linear", "cosine", "constant"]),
)
def test_text_and_typed_values_give_the_same_config(steps: int, rate: float, double: bool, course: str) -> None:
    typed: dict[str, Value] = {
        "max_steps": steps,
        "learning_rate": rate,
        "bnb_4bit_use_double_quant": double,
        "lr_scheduler_type": course,
    }
    as_text: dict[str, Value] = {key: str(value) for key, value in typed.items()}
    assert settings(**typed) == settings(**as_text)


@given(st.integers(1, 4096), st.floats(0, 0.99))
def test_a_saved_config_is_read_back_as_it_was(rank: int, dropout: float) -> None:
    config = replace(settings(), lora_r=rank, lora_dropout=dropout)
    assert config_from(config.as_dict()) == config


def test_a_saved_config_that_lacks_a_setting_is_not_read() -> None:
    saved = settings().as_dict()
    del saved["seed"]
    with pytest.raises(ValueError, match="seed"):
        config_from(saved)
