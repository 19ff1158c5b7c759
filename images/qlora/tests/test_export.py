"""From a checkpoint to files that another program reads and that say what the adapter says."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Workplace
from tunestack_train.errors import DiskFullError, OutOfMemoryError, SettingsError
from tunestack_train.export import export as exporting
from tunestack_train.export import gguf_files, room
from tunestack_train.export.bounds import DEFAULTS, DriftError, parse_bounds
from tunestack_train.export.drift import POSITIONS, PROMPTS, compare
from tunestack_train.export.export import MERGED_FOLDER, Exported, Request, export
from tunestack_train.export.modelfile import modelfile
from tunestack_train.export.source import choose_source
from tunestack_train.gpu import host
from tunestack_train.manifest import problems

SHORT = {"max_steps": 6, "save_steps": 3, "lora_r": 8}
TINY = ("q8_0", "q4_0")


@pytest.fixture(scope="module")
def run_folder(workplace: Workplace) -> Path:
    return workplace.run_here("exported", **SHORT)[0].adapter.parent


@pytest.fixture(scope="module")
def converter() -> Path:
    try:
        return gguf_files.require_converter()
    except SettingsError as error:
        pytest.skip(f"{error.message}; {error.remedy}")


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def exported(run_folder: Path, exports: Path, converter: Path) -> Exported:
    return do_export(run_folder, exports)


def do_export(
    run_folder: Path, exports: Path, *, quantisations: tuple[str, ...] = TINY, checkpoint: str = "last"
) -> Exported:
    request = Request(quantisations, parse_bounds([], []), None, "cpu")
    return export(choose_source(run_folder, checkpoint), exports, request, lambda _: None)


def test_every_file_says_what_the_adapter_says(exported: Exported, exports: Path) -> None:
    assert exported.folder == exports / "exported" / "checkpoint-6"
    assert problems(exported.folder) == []
    assert [stage.stage for stage in exported.stages] == ["base", "merged", "f16", "q8_0", "q4_0"]
    drift = {stage.stage: stage.bounded.kl for stage in exported.stages}
    # Seen: 4e-5 for the rounding of bf16, 1e-4 for 8 bits, 2e-3 to 2e-2 for 4 bits, of the base and of the file.
    assert 0 <= drift["merged"] < 5e-4
    assert 0 <= drift["f16"] < 5e-4
    assert drift["f16"] <= drift["q8_0"] < 1e-3
    assert drift["q8_0"] < drift["q4_0"] < 0.1
    assert 1e-5 < drift["base"] < 0.1
    assert list(exported.files) == [
        "Modelfile",
        "exported-f16.gguf",
        "exported-q4_0.gguf",
        "exported-q8_0.gguf",
        MERGED_FOLDER,
    ]
    sizes = exported.files
    assert sizes["exported-q4_0.gguf"] < sizes["exported-q8_0.gguf"] < sizes["exported-f16.gguf"]


def test_the_merged_model_loads_without_peft_and_answers_as_the_adapter(run_folder: Path, exported: Exported) -> None:
    """By transformers and PEFT alone, on a question that is not among the fixed prompts, in float32."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged_folder = exported.folder / MERGED_FOLDER
    tokenizer = AutoTokenizer.from_pretrained(merged_folder)
    question = [{"role": "user", "content": "What happens when a volume is restored?"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    exact: dict[str, Any] = {"attn_implementation": "eager", "dtype": torch.float32}
    base = AutoModelForCausalLM.from_pretrained(run_folder / "model", **exact)
    with torch.no_grad():
        before = base(ids).logits[0, -1].log_softmax(-1)
        adapter = PeftModel.from_pretrained(base, run_folder / "adapter").eval()(ids).logits[0, -1].log_softmax(-1)
        merged = AutoModelForCausalLM.from_pretrained(merged_folder, **exact)
        after = merged(ids).logits[0, -1].log_softmax(-1)
    assert torch.sum(adapter.exp() * (adapter - after)) < 1e-4
    assert torch.sum(adapter.exp() * (adapter - before)) > 1e-2


def test_the_gguf_file_carries_template_and_turns(run_folder: Path, exported: Exported) -> None:
    """Read by transformers' own reader of the format, which shares no code with what wrote it."""
    from transformers.integrations.gguf.reader import read_gguf_metadata

    wanted = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type"}
    for name in ("exported-f16.gguf", "exported-q8_0.gguf", "exported-q4_0.gguf"):
        metadata, tensors = read_gguf_metadata(str(exported.folder / name), wanted)
        assert metadata["general.architecture"] == "gemma2"
        template = (run_folder / "adapter" / "chat_template.jinja").read_text(encoding="utf-8")
        assert metadata["tokenizer.chat_template"] == template
        tokens = list(metadata["tokenizer.ggml.tokens"])
        kinds = list(metadata["tokenizer.ggml.token_type"])
        control, user_defined = 3, 4
        for turn in ("<start_of_turn>", "<end_of_turn>"):
            assert kinds[tokens.index(turn)] in (control, user_defined)
        assert len(tensors) == 35
    text = (exported.folder / "Modelfile").read_text(encoding="utf-8")
    assert text.startswith("FROM ./exported-q8_0.gguf\n")
    assert 'PARAMETER stop "<end_of_turn>"' in text


def test_the_same_export_again_does_nothing(run_folder: Path, exports: Path, exported: Exported) -> None:
    before = (exported.folder / "manifest.json").stat().st_mtime_ns
    again = do_export(run_folder, exports, quantisations=("q8_0",))
    assert (again.fresh, again.stages, again.files) == (False, exported.stages, exported.files)
    assert (exported.folder / "manifest.json").stat().st_mtime_ns == before


def test_a_damaged_export_is_made_anew(run_folder: Path, exported: Exported, tmp_path: Path) -> None:
    copy = tmp_path / "exported" / "checkpoint-6"
    shutil.copytree(exported.folder, copy)
    (copy / "exported-q8_0.gguf").write_bytes(b"torn")
    again = do_export(run_folder, tmp_path, quantisations=())
    assert again.fresh
    assert problems(copy) == []
    assert not (copy / "exported-q8_0.gguf").exists()


def zero_a_layer(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    name = "model.layers.1.mlp.down_proj.weight"
    weights[name] = torch.zeros_like(weights[name])
    save_file(weights, file, metadata={"format": "pt"})


def flip_the_end(file: Path) -> None:
    """Other weights in the last tensors of a GGUF file, its metadata untouched."""
    content = bytearray(file.read_bytes())
    half = len(content) // 2
    content[half:] = bytes(byte ^ 0x11 for byte in content[half:])
    file.write_bytes(content)


@pytest.mark.parametrize("stage", ["merged", "f16", "q4_0"])
def test_wrong_weights_fail_the_export_and_are_named(
    stage: str, run_folder: Path, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage between writing and reading back, in each stage: found there, and what was exported before stays."""
    write_merged, convert, quantise = exporting.write_merged, gguf_files.convert, gguf_files.quantise

    def merged(*arguments: object) -> None:
        write_merged(*arguments)  # type: ignore[arg-type]
        zero_a_layer(Path(str(arguments[-1])))

    def converted(model: Path, file: Path, name: str) -> None:
        convert(model, file, name)
        flip_the_end(file)

    def quantised(source: Path, file: Path, quantisation: str) -> None:
        quantise(source, file, quantisation)
        flip_the_end(file)

    if stage == "merged":
        monkeypatch.setattr(exporting, "write_merged", merged)
    elif stage == "f16":
        monkeypatch.setattr(gguf_files, "convert", converted)
    else:
        monkeypatch.setattr(gguf_files, "quantise", quantised)
    copy = shutil.copytree(exported.folder, tmp_path / "exported" / "checkpoint-6")
    # An earlier export, of another adapter: it is in the way and must outlive the failure.
    report = json.loads((copy / "export.json").read_text(encoding="utf-8")) | {"adapter_sha256": "another"}
    (copy / "export.json").write_text(json.dumps(report), encoding="utf-8")
    before = sorted((path.name, path.stat().st_size) for path in copy.rglob("*"))
    with pytest.raises(DriftError) as caught:
        do_export(run_folder, tmp_path, quantisations=() if stage == "merged" else ("q4_0",))
    label = {"merged": "merged safetensors", "f16": "GGUF f16", "q4_0": "GGUF q4_0"}[stage]
    assert f"the export of exported drifts: {label} differs" in caught.value.message
    marked = [line for line in caught.value.message.splitlines() if line.endswith("<-- here")]
    assert len(marked) == 1
    assert label in marked[0]
    assert caught.value.exit_code == 7
    assert sorted((path.name, path.stat().st_size) for path in copy.rglob("*")) == before
    assert [path.name for path in copy.parent.iterdir()] == ["checkpoint-6"]


def test_turns_that_would_be_read_as_text_fail_the_export(
    run_folder: Path, tmp_path: Path, converter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens when the tokenizer's files are converted as transformers 5 saves them."""
    monkeypatch.setattr(
        "tunestack_train.export.merged._restore_vocabulary",
        lambda base, tokenizer, folder: shutil.copyfile(base / "tokenizer.model", folder / "tokenizer.model"),
    )
    with pytest.raises(Exception, match="'<start_of_turn>', is plain text in the file"):
        do_export(run_folder, tmp_path)


def test_a_killed_export_leaves_what_was_there(
    workplace: Workplace, run_folder: Path, exported: Exported, tmp_path: Path
) -> None:
    copy = shutil.copytree(exported.folder, tmp_path / "exported" / "checkpoint-6")
    command = [sys.executable, "-m", "tunestack_train", "export", "exported", "--checkpoint=3", "--device=cpu"]
    environment = workplace.environment() | {"TUNESTACK_GGUF_DIR": str(tmp_path)}
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        partial = tmp_path / "exported" / ".checkpoint-3.partial" / MERGED_FOLDER
        deadline = time.monotonic() + 120
        while not (partial / "config.json").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert not (tmp_path / "exported" / "checkpoint-3").exists()
        assert problems(copy) == []
        if number == signal.SIGTERM:
            assert process.returncode == 75
            assert "the export was stopped (SIGTERM); what was exported before is untouched" in err
            assert "Traceback" not in err
            assert not partial.parent.exists()
        else:
            assert partial.parent.exists()
    again = do_export(run_folder, tmp_path, quantisations=(), checkpoint="3")
    assert again.fresh
    assert [path.name for path in (tmp_path / "exported").iterdir() if path.name.startswith(".")] == []


def test_the_command_reports_for_people_and_machines(workplace: Workplace, exports: Path, exported: Exported) -> None:
    environment = workplace.environment() | {"TUNESTACK_GGUF_DIR": str(exports)}
    command = [sys.executable, "-m", "tunestack_train", "export"]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)

    told = run("exported", "--checkpoint=last")
    assert told.returncode == 0, told.stderr
    assert "checkpoint-6 was exported before, nothing to do" in told.stdout
    assert "GGUF q8_0" in told.stdout
    assert "next: ollama create exported -f " in told.stdout
    report = json.loads(run("exported", "--json").stdout)
    assert (report["run"], report["checkpoint"], report["fresh"]) == ("exported", "checkpoint-6", False)
    assert report["files"] == exported.files
    strict = run("exported", "--max-kl=q8_0=0")
    assert strict.returncode == 7
    assert "(allowed 0)" in strict.stderr
    for options, expected in (
        (("exported", "--quantisation=q3_k"), "--quantisation = q3_k cannot be used"),
        (("exported", "--max-kl=q9=1"), "--max-kl = q9=1 cannot be used"),
        (("exported", "--checkpoint=4"), "give best, last, or one of these steps: 3, 6"),
        (("nobody",), "the run nobody has no complete checkpoint"),
    ):
        refused = run(*options)
        assert (refused.returncode, expected in refused.stderr) == (2, True), refused.stderr
        assert "Traceback" not in refused.stderr


def test_bounds_are_read_stage_by_stage() -> None:
    bounds = parse_bounds(["q8_0=0.5"], ["q8_0=0.1", "base=1"])
    assert (bounds.of("q8_0").max_kl, bounds.of("q8_0").min_top1) == (0.5, 0.1)
    assert (bounds.of("base").max_kl, bounds.of("base").min_top1) == (DEFAULTS["base"].max_kl, 1.0)
    for text in ("q8_0", "q8_0=-1", "q8_0=x", "=1"):
        with pytest.raises(SettingsError):
            parse_bounds([text], [])
    with pytest.raises(SettingsError):
        parse_bounds([], ["q8_0=1.5"])


def test_drift_is_the_mean_divergence_and_the_share_of_equal_choices() -> None:
    expected = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
    actual = torch.tensor([[0.25, 0.75], [0.9, 0.1]]).log()
    found = compare(expected, actual)
    assert found.kl == pytest.approx((0.5 * torch.tensor(2.0).log() + 0.5 * torch.tensor(2 / 3).log()) / 2)
    assert found.top1 == 0.5
    broken = compare(expected, torch.full((2, 2), float("nan")))
    assert broken.kl == float("inf")
    assert len(PROMPTS) * POSITIONS == 256


def test_room_is_looked_at_first(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = room.count_parameters(run_folder / "model")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(run_folder / "model")
    assert counted == sum(parameter.numel() for parameter in model.parameters())
    assert room.bytes_on_disk(100, []) == 200
    assert room.bytes_on_disk(100, ["q8_0", "q4_0"]) == 400 + 106 + 56
    room.require_memory(counted)
    monkeypatch.setattr(host, "memory", lambda: (16 << 30, 8 << 30))
    with pytest.raises(OutOfMemoryError, match=r"merging 9\.00 billion weights in bf16 takes \d+\.\d GiB of memory"):
        room.require_memory(9_000_000_000)
    monkeypatch.undo()
    with pytest.raises(DiskFullError, match=r"the export takes 1000000\.0 GB"):
        room.require_disk(tmp_path / "new", 10**15)


def test_a_template_of_the_model_itself_is_left_to_ollama() -> None:
    assert modelfile("m.gguf", "{{ something else }}", "</s>") == "FROM ./m.gguf\n"
    plain = Path(modelfile.__code__.co_filename).parent.parent / "templates" / "plain.jinja"
    text = modelfile("m.gguf", plain.read_text(encoding="utf-8"), "</s>")
    assert "### Instruction:\n{{ .Prompt }}\n" in text
    assert '{{ .Response }}</s>\n"""' in text
    assert 'PARAMETER stop "</s>"' in text
