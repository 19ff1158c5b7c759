"""Real runs of the rehearsal: what they leave, and that one which was cut off ends where an unbroken one does."""

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import SOURCES, Workplace
from tunestack_train.errors import SettingsError, StopRequested
from tunestack_train.logs import read_metrics
from tunestack_train.manifest import newest_complete, problems
from tunestack_train.presets import Value
from tunestack_train.run import Finished, Folders, Run
from tunestack_train.stop import StopSignal

COMMITTED_DATA = SOURCES.parent.parent.parent / "examples" / "data" / "tunestack-help.jsonl"
# Dropout, shuffling and a second pass over the data (60 rows, 4 in a step) are all in it.
SHORT: dict[str, Value] = {"max_steps": 18, "save_steps": 4, "lora_r": 8}


BY_FIVES = SHORT | {"logging_steps": 5}


@pytest.fixture(scope="module")
def unbroken_by_fives(workplace: Workplace) -> Finished:
    return workplace.run_here("by-fives", **BY_FIVES)[0]


@pytest.fixture(scope="module")
def unbroken(workplace: Workplace) -> Finished:
    return workplace.run_here("unbroken", **SHORT)[0]


def weights(finished: Finished) -> bytes:
    return (finished.adapter / "adapter_model.safetensors").read_bytes()


def losses(workplace: Workplace, name: str) -> list[tuple[object, object]]:
    entries = read_metrics(workplace.folders.logs / name / "metrics.jsonl")
    return [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]


def figures(workplace: Workplace, name: str) -> list[dict[str, object]]:
    """The lines of the log without what depends on the clock."""
    entries = read_metrics(workplace.folders.logs / name / "metrics.jsonl")
    return [
        {key: value for key, value in entry.items() if key not in ("time", "tokens_per_second")} for entry in entries
    ]


def status(workplace: Workplace, name: str) -> dict[str, object]:
    content = json.loads((workplace.folders.logs / name / "status.json").read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def interrupt(
    workplace: Workplace, name: str, after_step: int, number: signal.Signals, **settings: Value
) -> tuple[int, str]:
    """Starts a run in a process of its own, sends it a signal once it has done `after_step`; exit code and errors."""
    process = subprocess.Popen(
        workplace.command(name, **(settings or SHORT)),
        env=workplace.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = workplace.folders.logs / name / "metrics.jsonl"
    while len(read_metrics(metrics)) < after_step:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def test_the_rehearsal_learns_and_leaves_a_whole_adapter(workplace: Workplace) -> None:
    """The preset as it is, on the committed data, by the command that a container runs."""
    command = [*workplace.command("first"), "--json"]
    command[command.index(f"--data={workplace.data}")] = f"--data={COMMITTED_DATA}"
    done = subprocess.run(command, env=workplace.environment(), capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert (result["steps"], result["trained"]) == (30, True)
    assert "step 30/30" in done.stderr
    assert "Warning" not in done.stderr

    curve = losses(workplace, "first")
    assert [step for step, _ in curve] == list(range(1, 31))
    first, last = (sum(float(str(loss)) for _, loss in part) / 3 for part in (curve[:3], curve[-3:]))
    # 9.5 → 6.4 was seen; a model that learns nothing stays within 0.3.
    assert first - last > 2

    folder = workplace.folders.checkpoints / "first"
    assert problems(folder / "adapter") == []
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-20",
        "checkpoint-30",
    ]
    for checkpoint in folder.glob("checkpoint-*"):
        assert problems(checkpoint) == []
        assert (checkpoint / "run.json").read_bytes() == (folder / "run.json").read_bytes()

    assert (folder / "adapter" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert f"| last loss | `{curve[-1][1]:.4f}` |" in (folder / "adapter" / "README.md").read_text(encoding="utf-8")

    told = status(workplace, "first")
    assert (told["state"], told["step"], told["max_steps"], told["exit_code"]) == ("completed", 30, 30, 0)
    assert told["adapter"] == str(folder / "adapter")
    assert told["last_checkpoint"]["path"] == str(folder / "checkpoint-30")  # type: ignore[index]
    assert told["first_loss"] == curve[0][1]

    events = EventAccumulator(str(workplace.folders.logs / "first" / "tensorboard"))
    events.Reload()
    shown = [(event.step, pytest.approx(event.value, rel=1e-6)) for event in events.Scalars("train/loss")]
    assert curve == shown


def test_a_run_remembers_what_it_was_made_from(workplace: Workplace, unbroken: Finished) -> None:
    record = json.loads((unbroken.adapter / "run.json").read_text(encoding="utf-8"))
    assert record["config"]["lora_r"] == 8
    assert record["sources"]["lora_r"] == "test"
    assert record["data"]["rows"] == 60
    assert len(record["data"]["sha256"]) == 64
    assert record["versions"]["torch"] == "2.7.1"
    adapter = json.loads((unbroken.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    assert (adapter["r"], adapter["lora_alpha"], adapter["task_type"]) == (8, 32, "CAUSAL_LM")
    assert set(adapter["target_modules"]) == {
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    }


def test_the_adapter_loads_onto_its_base_and_changes_what_that_says(workplace: Workplace, unbroken: Finished) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(unbroken.adapter)
    prompt = [{"role": "user", "content": "What happens when a run is saved, case 0?"}]
    ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    base = AutoModelForCausalLM.from_pretrained(unbroken.adapter.parent / "model", attn_implementation="eager")
    with torch.no_grad():
        before = base(ids).logits[0, -1]
        after = PeftModel.from_pretrained(base, unbroken.adapter).eval()(ids).logits[0, -1]
    assert (before - after).abs().max() > 1
    answer = torch.tensor(tokenizer("When", add_special_tokens=False)["input_ids"][:1])
    assert after.log_softmax(-1)[answer] > before.log_softmax(-1)[answer]


def test_a_finished_run_does_not_train_again(workplace: Workplace, unbroken: Finished) -> None:
    trained_at = (unbroken.adapter / "adapter_model.safetensors").stat().st_mtime_ns
    before = status(workplace, "unbroken")
    again, said = workplace.run_here("unbroken", **SHORT)
    assert (again.trained, again.steps, again.last_loss) == (False, 18, unbroken.last_loss)
    assert said == ""
    assert (unbroken.adapter / "adapter_model.safetensors").stat().st_mtime_ns == trained_at
    assert status(workplace, "unbroken") == before


def test_a_run_is_not_mixed_with_another_of_its_name(workplace: Workplace, unbroken: Finished, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        workplace.run_here("unbroken", **SHORT | {"seed": 7, "lora_r": 16})
    assert caught.value.exit_code == 2
    assert "  seed was 42, now 7\n" in caught.value.message + "\n"
    assert "  lora_r was 8, now 16\n" in caught.value.message + "\n"
    assert "another --name" in caught.value.remedy

    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(workplace.data.read_bytes())
    elsewhere = Workplace(workplace.folders, moved)
    assert not elsewhere.run_here("unbroken", **SHORT)[0].trained
    moved.write_bytes(workplace.data.read_bytes() * 2)
    with pytest.raises(SettingsError, match="the data was"):
        elsewhere.run_here("unbroken", **SHORT)


def test_a_killed_run_ends_where_the_unbroken_one_does(workplace: Workplace, unbroken: Finished) -> None:
    code, _ = interrupt(workplace, "killed", 11, signal.SIGKILL)
    assert code == -signal.SIGKILL
    folder = workplace.folders.checkpoints / "killed"
    assert not (folder / "adapter").exists()
    resumed, said = workplace.run_here("killed", **SHORT)
    assert "going on after step 8" in said
    assert weights(resumed) == weights(unbroken)
    assert losses(workplace, "killed") == losses(workplace, "unbroken")
    assert resumed.first_loss == unbroken.first_loss


def test_a_stopped_run_saves_first_and_ends_where_the_unbroken_one_does(
    workplace: Workplace, unbroken: Finished
) -> None:
    code, err = interrupt(workplace, "stopped", 5, signal.SIGTERM)
    assert code == 75
    told = status(workplace, "stopped")
    step = told["step"]
    assert isinstance(step, int)
    assert 5 <= step < 18
    assert (told["state"], told["exit_code"], told["error"]) == ("stopped", 75, None)
    assert f"stopped on request after step {step}, checkpoint saved" in err
    assert "Traceback" not in err
    assert problems(workplace.folders.checkpoints / "stopped" / f"checkpoint-{step}") == []
    assert [done for done, _ in losses(workplace, "stopped")] == list(range(1, step + 1))
    assert (workplace.folders.logs / "stopped" / "curve.png").read_bytes().startswith(b"\x89PNG")
    resumed, said = workplace.run_here("stopped", **SHORT)
    assert f"going on after step {step}" in said
    assert weights(resumed) == weights(unbroken)
    assert losses(workplace, "stopped") == losses(workplace, "unbroken")


def test_a_damaged_checkpoint_is_set_aside_and_its_steps_are_done_again(
    workplace: Workplace, unbroken: Finished
) -> None:
    import shutil

    folder = shutil.copytree(unbroken.adapter.parent, workplace.folders.checkpoints / "damaged")
    shutil.rmtree(folder / "adapter")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["config"]["name"] = "damaged"
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    torn = folder / "checkpoint-18" / "optimizer.pt"
    torn.write_bytes(torn.read_bytes()[:-100])
    resumed, said = workplace.run_here("damaged", **SHORT)
    assert "note: checkpoint-18 is damaged (optimizer.pt has" in said
    assert "set aside as checkpoint-18.damaged" in said
    assert "going on after step 16" in said
    assert weights(resumed) == weights(unbroken)
    assert problems(folder / "checkpoint-18") == []


def test_a_run_that_was_killed_before_its_adapter_was_there_needs_no_training(
    workplace: Workplace, unbroken: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    kept = weights(unbroken)
    shutil.rmtree(unbroken.adapter)
    monkeypatch.setattr(Run, "_train", lambda *_: pytest.fail("trained again"))
    again, _ = workplace.run_here("unbroken", **SHORT)
    assert weights(again) == kept
    assert problems(unbroken.adapter) == []


def test_a_full_disk_in_mid_run_keeps_the_checkpoints_that_are_there(
    workplace: Workplace, unbroken: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunestack_train.errors import DiskFullError
    from tunestack_train.manifest import write_manifest

    def write_until_full(folder: Path) -> None:
        if folder.name == ".checkpoint-8.partial":
            Path("/dev/full").write_bytes(b"manifest")
        write_manifest(folder)

    monkeypatch.setattr("tunestack_train.checkpoints.write_manifest", write_until_full)
    with pytest.raises(DiskFullError, match=r"checkpoint-8 could not be written"):
        workplace.run_here("full", **SHORT)
    folder = workplace.folders.checkpoints / "full"
    assert newest_complete(folder) == folder / "checkpoint-4"
    assert status(workplace, "full")["exit_code"] == 6
    monkeypatch.undo()
    assert weights(workplace.run_here("full", **SHORT)[0]) == weights(unbroken)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"packing": True, "dataloader_workers": "1"}, "packed"),
        ({"max_steps": 0, "num_train_epochs": 0.1, "load_in_4bit": False, "precision": "float32"}, "whole weights"),
        ({"optim": "adamw_torch", "lora_target_modules": "q_proj,v_proj", "lora_r": 4}, "other optimiser and layers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_settings_train_too(workplace: Workplace, changes: dict[str, Value], expected: str) -> None:
    name = expected.replace(" ", "-")
    finished, _ = workplace.run_here(name, **{"max_steps": 2, "save_steps": 2, **changes})
    assert finished.steps == 2
    assert len(losses(workplace, name)) == 2


def test_instructions_completions_and_text_train_too(workplace: Workplace) -> None:
    for name in ("instruction.jsonl", "prompt-completion.csv", "text.jsonl"):
        data = COMMITTED_DATA.parent / "formats" / name
        finished, _ = Workplace(Folders(workplace.folders.checkpoints, workplace.folders.logs), data).run_here(
            f"format-{data.stem}", max_steps=1
        )
        assert finished.first_loss is not None


def test_a_model_in_a_folder_is_trained_as_it_is(workplace: Workplace, unbroken: Finished) -> None:
    finished, said = workplace.run_here("own-model", model=str(unbroken.adapter.parent / "model"), max_steps=1)
    adapter = json.loads((finished.adapter / "adapter_config.json").read_text(encoding="utf-8"))
    assert adapter["base_model_name_or_path"] == str(unbroken.adapter.parent / "model")
    assert "making a tiny Gemma" not in said


def test_an_evaluation_leaves_the_4_bit_weights_as_they_were(unbroken: Finished) -> None:
    """On CPUs with AVX512-BF16 bitsandbytes repacks them in place, and what is trained or merged then is garbage."""
    import torch

    from tunestack_train.device import choose_device
    from tunestack_train.model import load_base
    from tunestack_train.resolve import Layer, resolve

    config = resolve("r", "rehearsal", [Layer("test", {"data": "d", "device": "cpu"})]).config
    model = load_base(unbroken.adapter.parent / "model", config, choose_device("cpu", "bf16"))
    quantised = {name: weight for name, weight in model.named_parameters() if weight.dtype == torch.uint8}
    assert len(quantised) == 3 * 7  # layers, and the linear layers in each
    before = {name: weight.clone() for name, weight in quantised.items()}
    with torch.no_grad():
        model.eval()(torch.tensor([[2, 10, 20, 30]]))
    for name, weight in model.named_parameters():
        if name in before:
            assert torch.equal(weight, before[name]), name
    ids = torch.tensor([[2, 10, 20, 30]])
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    model.train()(inputs_embeds=embedded).logits.sum().backward()
    assert embedded.grad is not None
    assert embedded.grad.abs().sum() > 0


class StopAfter(StopSignal):
    """A request that comes while the training looks for one the given time; it looks after each forward pass."""

    def __init__(self, looks: int) -> None:
        self._looks_left = looks
        super().__init__()

    @property
    def requested(self) -> bool:
        self._looks_left -= 1
        return self._looks_left <= 0

    @requested.setter
    def requested(self, _: bool) -> None: ...


# Two forward passes make a step, and 15 steps an epoch.
@pytest.mark.parametrize(
    ("looks", "saved_step", "in_background"),
    [(9, 4, True), (10, 5, True), (11, 5, True), (11, 5, False), (30, 15, True), (31, 15, True)],
)
def test_a_run_stopped_within_a_step_does_that_step_again(
    workplace: Workplace, unbroken_by_fives: Finished, looks: int, saved_step: int, in_background: bool
) -> None:
    name = f"within-{looks}-{'background' if in_background else 'waiting'}"
    changes = BY_FIVES | {"save_in_background": in_background}
    with pytest.raises(StopRequested, match=f"after step {saved_step}, checkpoint saved"):
        workplace.run_here(name, stop=StopAfter(looks), **changes)
    assert newest_complete(workplace.folders.checkpoints / name) == (
        workplace.folders.checkpoints / name / f"checkpoint-{saved_step}"
    )
    resumed, said = workplace.run_here(name, **changes)
    assert f"going on after step {saved_step}" in said
    assert weights(resumed) == weights(unbroken_by_fives)
    # Lines of the log are means over five steps, begun in one process and ended in the other.
    assert losses(workplace, name) == losses(workplace, "by-fives")
    assert figures(workplace, name) == figures(workplace, "by-fives")


def test_a_run_stopped_within_its_first_step_says_that_there_is_nothing_to_go_on_from(
    workplace: Workplace,
) -> None:
    with pytest.raises(StopRequested, match="within the first step, with nothing to save"):
        workplace.run_here("at-once", stop=StopAfter(1), **SHORT)
    assert list((workplace.folders.checkpoints / "at-once").glob("checkpoint-*")) == []
    assert status(workplace, "at-once")["state"] == "stopped"


def test_a_packed_run_goes_on_where_it_was_stopped(workplace: Workplace) -> None:
    settings: dict[str, Value] = {"packing": True, "max_steps": 4, "save_steps": 2, "max_length": 128}
    whole, said = workplace.run_here("packed-whole", **settings)
    assert re.search(r"packing: [\d,]+ examples in [\d,]+ rows of 128, \d+\.\d% padding; 4 steps are", said)
    halves, _ = workplace.run_here("packed-halves", **settings)
    shutil.rmtree(halves.adapter)
    shutil.rmtree(halves.adapter.parent / "checkpoint-4")
    again, _ = workplace.run_here("packed-halves", **settings)
    assert weights(again) == weights(whole)
    assert losses(workplace, "packed-halves") == losses(workplace, "packed-whole")


# The end of a step after which a checkpoint and its evaluation are due, and the middle of that evaluation.
@pytest.mark.parametrize("looks", [8, 10])
def test_an_evaluation_that_a_stop_cuts_short_is_made_up_for(workplace: Workplace, looks: int) -> None:
    evaluated = BY_FIVES | {"eval_share": 0.2, "max_steps": 9}
    whole, _ = workplace.run_here("evaluated", **evaluated)
    name = f"evaluated-{looks}"
    with pytest.raises(StopRequested, match="after step 4, checkpoint saved"):
        workplace.run_here(name, stop=StopAfter(looks), **evaluated)
    assert [entry for entry in figures(workplace, name) if "eval_loss" in entry] == []
    resumed, said = workplace.run_here(name, **evaluated)
    assert "going on after step 4" in said
    assert weights(resumed) == weights(whole)
    assert figures(workplace, name) == figures(workplace, "evaluated")
