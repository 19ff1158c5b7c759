"""Runs that are killed (SIGKILL) or stopped (SIGTERM) at random moments and started again: do they end as if unbroken?

Importing PyTorch and its friends takes longer than training the tiny model. So one process imports them, and each trial
is forked from it before anything else has been done; the imports themselves are the one part that no signal hits. The
same trials follow with the plain Trainer: TRL's SFTTrainer resuming from its last checkpoint, with transformers' own
checkpoint on SIGTERM.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from measures import Measure, report, say
from tunestack_train.device import set_up_libraries

SEED = 20261124
SETTINGS = {
    "max_steps": 12,
    "save_steps": 3,
    "save_total_limit": 2,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 2,
    "max_length": 96,
    "lora_r": 4,
    "lora_dropout": 0.1,
    "device": "cpu",
}
ROWS = 18
"""Fewer than the steps take, so that runs break off in the middle of a second pass too."""
LONGEST_TRIAL = 300.0
WEIGHTS = "adapter_model.safetensors"

Body = Callable[[Path], int]
"""A training in a folder: begins it or goes on with it. Returns the exit code."""


@dataclass(frozen=True)
class Outcome:
    """`equal`: the weights after the second start are the unbroken run's, bit for bit. `reason` says why not."""

    equal: bool
    reason: str
    seconds_to_end: float
    saved: bool
    """Whether the broken run left a checkpoint."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100, help="trials for each signal and each way")
    parser.add_argument("--stock-trials", type=int, help="trials with the plain Trainer, if others")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tunestack-resume-") as folder:
        work = Path(folder)
        prepare(work)
        write_data(work / "data.jsonl")
        ours = measure("tunestack", train, work, options.trials)
        stock_trials = options.trials if options.stock_trials is None else options.stock_trials
        stock = measure("plain Trainer", train_plainly, work, stock_trials)
    stops = [outcome.seconds_to_end for outcome in ours[signal.SIGTERM] if outcome.saved]
    report(
        Measure("trials for each signal", options.trials, ""),
        Measure("equal after SIGKILL", share(ours[signal.SIGKILL]), "%", "== 100"),
        Measure("equal after SIGTERM", share(ours[signal.SIGTERM]), "%", "== 100"),
        Measure("trials of the plain Trainer for each signal", stock_trials, ""),
        Measure("plain Trainer, equal after SIGKILL", share(stock[signal.SIGKILL]), "%"),
        Measure("plain Trainer, equal after SIGTERM", share(stock[signal.SIGTERM]), "%"),
        Measure("SIGTERM to durable checkpoint and gone, p99", percentile(stops, 99), "s", "<= 15"),
        Measure("SIGTERM to durable checkpoint and gone, median", percentile(stops, 50), "s"),
    )


def prepare(work: Path) -> None:
    # More threads than one would be lost in a fork.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["HF_HOME"] = str(work / "hub")
    set_up_libraries()
    say("importing the training libraries once, for all trials")
    importlib.import_module("tunestack_train.trainer")


def measure(name: str, body: Body, work: Path, trials: int) -> dict[signal.Signals, list[Outcome]]:
    unbroken = work / f"{name} unbroken".replace(" ", "-")
    run_to_end(body, unbroken)
    import_what_it_took(unbroken)
    again = work / f"{name} again".replace(" ", "-")
    began = time.monotonic()
    run_to_end(body, again)
    took = time.monotonic() - began
    expected = weights(unbroken)
    if weights(again) != expected:
        raise RuntimeError(f"{name}: two unbroken runs differ, so there is nothing to compare with")
    chance = random.Random(SEED)  # noqa: S311 - moments, not secrets
    outcomes: dict[signal.Signals, list[Outcome]] = {signal.SIGKILL: [], signal.SIGTERM: []}
    for number, found in outcomes.items():
        for trial in range(trials):
            folder = work / f"{name}-{number.name}-{trial}".replace(" ", "-")
            outcome = break_and_go_on(body, folder, number, chance, took, expected)
            found.append(outcome)
            if not outcome.equal and name == "tunestack":
                say(f"{name}, {number.name}, trial {trial + 1}: {outcome.reason}")
            if (trial + 1) % 10 == 0 or trial + 1 == trials:
                equal = sum(one.equal for one in found)
                say(f"{name}, {number.name}: {equal} of {trial + 1} ended as the unbroken run ({took:.1f} s) did")
    return outcomes


def break_and_go_on(
    body: Body, folder: Path, number: signal.Signals, chance: random.Random, took: float, expected: bytes
) -> Outcome:
    while True:
        process = start(body, folder)
        time.sleep(chance.uniform(0, took))
        if os.waitpid(process, os.WNOHANG)[0] == 0:
            break
        # It was over before its moment came: another trial in its place.
        shutil.rmtree(folder)
    began = time.monotonic()
    os.kill(process, number)
    wait_for(process)
    seconds = time.monotonic() - began
    saved = any((folder / "run").glob("checkpoint-*"))
    try:
        run_to_end(body, folder)
        equal = weights(folder) == expected
        reason = "" if equal else "other weights"
    except RuntimeError as error:
        equal, reason = False, str(error)
    shutil.rmtree(folder)
    return Outcome(equal, reason, seconds, saved)


def start(body: Body, folder: Path) -> int:
    """Forks a process that trains; its id."""
    folder.mkdir(parents=True, exist_ok=True)
    if threading.active_count() != 1:
        raise RuntimeError(f"only a process with one thread can be forked: {threading.enumerate()}")
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = body(folder)
        modules = folder / "modules.json"
        modules.write_text(json.dumps(sorted(sys.modules)), encoding="utf-8")
    finally:
        sys.stdout.flush()
        os._exit(code)


def run_to_end(body: Body, folder: Path) -> None:
    code = wait_for(start(body, folder))
    if code != 0:
        output = (folder / "output.txt").read_text(encoding="utf-8").strip()
        raise RuntimeError(f"the second start ended with {code}: {output[-2000:]}")


def wait_for(process: int) -> int:
    """The exit code, negative for a signal. A process that takes too long is killed and told as such."""
    deadline = time.monotonic() + LONGEST_TRIAL
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise RuntimeError(f"a run took longer than {LONGEST_TRIAL:.0f} s")


def import_what_it_took(folder: Path) -> None:
    """Modules that a training imports on its way are imported here too, so that later ones begin at once."""
    for name in json.loads((folder / "modules.json").read_text(encoding="utf-8")):
        if name not in sys.modules and name.partition(".")[0] in (
            "transformers",
            "peft",
            "bitsandbytes",
            "torch",
            "datasets",
        ):
            try:
                importlib.import_module(name)
            except Exception as error:  # some exist in a running training alone
                say(f"not imported beforehand: {name} ({error})")


def train(folder: Path) -> int:
    """What `tunestack-train run` does."""
    from tunestack_train.cli import main as command

    os.environ["TUNESTACK_CHECKPOINTS_DIR"] = str(folder)
    os.environ["TUNESTACK_LOGS_DIR"] = str(folder / "logs")
    settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    data = folder.parent / "data.jsonl"
    return command(["run", "--name=run", "--preset=rehearsal", f"--data={data}", *settings])


def train_plainly(folder: Path) -> int:
    """The same model, data and settings as a script that follows TRL's documentation."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers.trainer_utils import get_last_checkpoint
    from trl import SFTConfig, SFTTrainer

    # What the unbroken run of ours made.
    tokens = next((folder.parent / "hub").rglob("tokens.arrow"))
    model, tokenizer = load_plainly(folder.parent / "tunestack-unbroken" / "run" / "model")
    output = folder / "run"
    arguments = SFTConfig(
        output_dir=str(output),
        max_steps=SETTINGS["max_steps"],
        save_steps=SETTINGS["save_steps"],
        save_total_limit=SETTINGS["save_total_limit"],
        per_device_train_batch_size=SETTINGS["per_device_train_batch_size"],
        gradient_accumulation_steps=SETTINGS["gradient_accumulation_steps"],
        learning_rate=1e-2,
        lr_scheduler_type="cosine",
        optim="adamw_8bit",
        bf16=True,
        use_cpu=True,
        seed=42,
        data_seed=42,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        enable_jit_checkpoint=True,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
    )
    lora = LoraConfig(
        r=SETTINGS["lora_r"],
        lora_alpha=32,
        lora_dropout=SETTINGS["lora_dropout"],
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    data = Dataset.from_file(str(tokens)).select_columns(["input_ids", "labels"])
    trainer = SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer, peft_config=lora)
    last = get_last_checkpoint(str(output)) if output.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    if trainer.state.global_step < trainer.state.max_steps:
        return 75
    trainer.save_model(str(output / "adapter"))
    return 0


def load_plainly(folder: Path) -> tuple[object, object]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        attn_implementation="eager",
        quantization_config=quantisation,
        device_map={"": "cpu"},
    )
    return model, AutoTokenizer.from_pretrained(folder)


def weights(folder: Path) -> bytes:
    return (folder / "run" / "adapter" / WEIGHTS).read_bytes()


def write_data(path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {number} and {number + 1}?"},
                {"role": "assistant", "content": f"Together they are {2 * number + 1}."},
            ]
        }
        for number in range(ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def share(outcomes: list[Outcome]) -> float | None:
    return 100 * sum(outcome.equal for outcome in outcomes) / len(outcomes) if outcomes else None


def percentile(values: list[float], percent: int) -> float | None:
    if len(values) < 2:
        return values[0] if values else None
    return quantiles(values, n=100, method="inclusive")[percent - 1]


if __name__ == "__main__":
    main()
