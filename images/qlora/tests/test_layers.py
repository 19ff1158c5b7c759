"""Where values come from: files, environment, command line, `--set`, in that order, every problem at once."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunestack_train.errors import Problem, SettingsProblems
from tunestack_train.layers import assignments_layer, environment_layer, file_layer
from tunestack_train.presets import DEFAULTS, PRESETS, Value
from tunestack_train.resolve import Layer, Resolved, resolve

RANK = "lora_r"


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def resolved(*layers: Layer) -> Resolved:
    return resolve("my-run", None, [Layer("test", {"data": "d.jsonl", "model": "some/model"}), *layers])


def problems(*layers: Layer) -> list[Problem]:
    with pytest.raises(SettingsProblems) as caught:
        resolved(*layers)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", "lora_r: 8\nlearning_rate: 1e-4\npacking: no\nlora_target_modules: [q_proj, k_proj]\n"),
        (
            "a.json",
            '{"lora_r": 8, "learning_rate": 1e-4, "packing": false, "lora_target_modules": ["q_proj", "k_proj"]}',
        ),
        ("a.toml", 'lora_r = 8\nlearning_rate = 1e-4\npacking = false\nlora_target_modules = ["q_proj", "k_proj"]\n'),
    ],
)
def test_every_format_of_file_says_the_same(tmp_path: Path, name: str, content: str) -> None:
    config = resolved(file_layer(written(tmp_path, name, content))).config
    assert (config.lora_r, config.learning_rate, config.packing) == (8, 1e-4, False)
    assert config.lora_target_modules == "q_proj,k_proj"


def test_a_value_of_a_file_knows_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, "a.yaml", "# mine\nlora_r: 8\n\nseed: 7\n")
    sources = resolved(file_layer(path)).sources
    assert (sources["lora_r"], sources["seed"], sources["optim"]) == (f"{path}:2", f"{path}:4", "default")
    (problem,) = problems(file_layer(written(tmp_path, "a.yaml", "seed: 7\nlora_r: many\n")))
    assert (problem.path, problem.value) == ("lora_r", "'many'")
    assert f"from {path}:2" in problem.reason


def test_a_file_may_name_preset_and_run(tmp_path: Path) -> None:
    path = written(tmp_path, "a.yaml", "preset: gemma-2b\nname: from-file\ndata: d.jsonl\n")
    result = resolve(None, None, [file_layer(path)])
    assert (result.config.name, result.config.model, result.config.max_steps) == (
        "from-file",
        "google/gemma-2-2b",
        1000,
    )
    assert result.sources["preset"] == f"{path}:1"
    over = resolve("mine", "rehearsal", [file_layer(path)]).config
    assert (over.name, over.preset, over.max_steps) == ("mine", "rehearsal", 30)


@given(st.permutations(["first.yaml", "second.yaml", "environment", "--set"]), st.integers(0, 3))
def test_the_last_layer_that_names_a_setting_wins_whatever_the_others_say(order: list[str], count: int) -> None:
    """The order of the layers is the only thing that decides; each of them may or may not name the setting."""
    layers = [Layer(source, {RANK: rank}) for rank, source in enumerate(order[:count], start=1)]
    result = resolved(*layers)
    assert result.config.lora_r == (count if count else DEFAULTS[RANK])
    assert result.sources[RANK] == (order[count - 1] if count else "default")


@given(st.dictionaries(st.sampled_from(["lora_r", "seed", "max_steps"]), st.integers(1, 4096), min_size=1))
def test_file_environment_and_assignment_read_a_value_alike(values: dict[str, int]) -> None:
    typed: dict[str, Value] = dict(values)
    expected = resolved(Layer("typed", typed)).config
    environment = environment_layer({f"TUNESTACK_SET_{key.upper()}": str(value) for key, value in values.items()})
    assert resolved(environment).config == expected
    assert resolved(assignments_layer([f"{key}={value}" for key, value in values.items()])).config == expected


def test_the_environment_is_named_by_its_variable() -> None:
    layer = environment_layer({"TUNESTACK_SET_LORA_R": "8", "TUNESTACK_SET_SEED": "", "LORA_R": "9"})
    result = resolved(layer)
    assert (result.config.lora_r, result.sources["lora_r"], result.sources["seed"]) == (
        8,
        "TUNESTACK_SET_LORA_R",
        "default",
    )
    (unknown,) = problems(environment_layer({"TUNESTACK_SET_LORA_RANK": "8"}))
    assert "TUNESTACK_SET_LORA_RANK" in unknown.reason
    assert "lora_r" in unknown.remedy


def test_assignments_are_split_at_the_first_equals_sign() -> None:
    layer = assignments_layer(["a=b=c", " lora_r =8", "lora_r=9"])
    assert (layer.values, layer.problems) == ({"a": "b=c", "lora_r": "9"}, ())


def test_problems_of_all_layers_come_at_once(tmp_path: Path) -> None:
    found = problems(
        file_layer(tmp_path / "missing.yaml"),
        file_layer(written(tmp_path, "a.toml", "lora_r = [1]\nseed = -1\n")),
        environment_layer({"TUNESTACK_SET_MAX_STEPS": "many"}),
        assignments_layer(["lora_r", "preset=custom", "packing=perhaps", "lora_alpa=1"]),
    )
    assert [problem.path for problem in found] == [
        "--config",
        "lora_r",
        "--set",
        "preset",
        "seed",
        "max_steps",
        "packing",
        "lora_alpa",
    ]
    assert all(problem.remedy for problem in found)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.ini", "lora_r=8", "ends in .ini, which says nothing about its format"),
        ("a.yaml", "lora_r: [8\n", "is not YAML: "),
        ("a.yaml", "- lora_r\n", "is not one YAML mapping of settings"),
        ("a.yaml", "lora_r: 8\nseed: 1\nlora_r: 9\n", "is given twice: by {path}:1 and by {path}:3"),
        ("a.yaml", "lora_r:\n", "is no plain value but nothing ({path}:1)"),
        ("a.yaml", "lora:\n  r: 8\n", "is no plain value but an object ({path}:1)"),
        ("a.yaml", b"name: caf\xe9\n", "is not UTF-8 (byte 0xe9)"),
        ("a.json", '{"lora_r": 8', "is not JSON: Expecting ',' delimiter at line 1, column 13"),
        ("a.json", '["lora_r"]', "is not one JSON object of settings"),
        ("a.json", '{"lora_r": 8, "lora_r": 9}', "is given twice"),
        ("a.json", '{"lora": {"r": 8}}', "is no plain value but an object"),
        ("a.toml", "lora_r = \n", "is not TOML: "),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str, content: str | bytes, expected: str) -> None:
    path = written(tmp_path, name, content)
    (problem,) = file_layer(path).problems
    assert expected.format(path=path) in problem.reason
    assert problem.remedy


def test_an_empty_file_and_a_folder(tmp_path: Path) -> None:
    assert file_layer(written(tmp_path, "a.yaml", "# nothing yet\n")) == Layer(str(tmp_path / "a.yaml"), {})
    (tmp_path / "b.yaml").mkdir()
    (problem,) = file_layer(tmp_path / "b.yaml").problems
    assert "cannot be read: Is a directory" in problem.reason


def test_a_saved_config_is_a_file_that_gives_the_same_run(tmp_path: Path) -> None:
    for preset in PRESETS:
        config = resolve("my-run", preset, [Layer("test", {"data": "d.jsonl", "model": "some/model"})]).config
        path = written(tmp_path, "config.json", json.dumps(config.as_dict()))
        assert resolve(None, None, [file_layer(path)]).config == config
