"""Our step against that of a plain TRL script, with the same model, data and settings.

Both train at once and take turns: a step of one, a step of the other. What else the machine does falls on both alike,
and each step has its partner. A turn lasts from one `on_step_end` to the next, so that everything in the loop counts:
the next batch, logging, the status file.
"""

import contextlib
import io
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from measures import Measure, report, say
from tunestack_train.device import set_up_libraries

# With few words hardly anything of a step is the loss; with many, what its chunks save shows.
VOCABULARIES: Final = (2_048, 32_000)
STEPS: Final = 20
WARM_UP: Final = 4
OURS, PLAIN = "ours", "plain"
SETTINGS: Final[dict[str, Any]] = {
    "max_steps": STEPS,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_length": 256,
    "learning_rate": 1e-3,
    "save_steps": STEPS,
    "logging_steps": 5,
    "device": "auto",
}
SHAPE: Final = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6}
DATA: Final = Path("examples", "data", "tunestack-help.jsonl")


def main() -> None:
    set_up_libraries()
    report(*[measure for vocabulary in VOCABULARIES for measure in compare(vocabulary)])


def compare(vocabulary: int) -> list[Measure]:
    say(f"{STEPS} steps each, taking turns, {vocabulary} words")
    turns = Turns()
    with tempfile.TemporaryDirectory() as scratch, turns.installed():
        folder = Path(scratch)
        data = write_data(folder / "data.jsonl")
        model = write_model(folder / "model", data, vocabulary)
        plain = threading.Thread(target=turns.take_part, args=(PLAIN, lambda: train_plainly(folder, model, data)))
        plain.start()
        # One after the other up to the first step: while transformers loads a model, no other thread may make one.
        turns.wait_for(PLAIN)
        turns.take_part(OURS, lambda: train_ours(folder, model, data))
        plain.join()
    for who, error in turns.errors.items():
        raise SystemExit(f"{who}: {error!r}")
    return figures(turns, f"{vocabulary:,} words")


def figures(turns: "Turns", what: str) -> list[Measure]:
    ours, plain = turns.seconds[OURS][WARM_UP:], turns.seconds[PLAIN][WARM_UP:]
    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    cpu = [statistics.median(turns.cpu_seconds[who][WARM_UP:]) for who in (OURS, PLAIN)]
    quartiles = statistics.quantiles(ratios, n=4)
    losses = [turns.first_loss[who] for who in (OURS, PLAIN)]
    return [
        Measure(f"step, ours, {what}", statistics.median(ours), "s"),
        Measure(f"step, plain TRL script, {what}", statistics.median(plain), "s"),
        Measure(f"ours / plain, median of paired steps, {what}", statistics.median(ratios), "×", "<= 1.02"),
        Measure(f"ours / plain, lower quartile, {what}", quartiles[0], "×"),
        Measure(f"ours / plain, upper quartile, {what}", quartiles[2], "×"),
        Measure(f"ours / plain, processor time, {what}", cpu[0] / cpu[1], "×"),
        Measure(f"first logged loss, ours / plain, {what}", losses[0] / losses[1], "×"),
    ]


class Turns:
    """Lets one of two trainings do a step at a time, and notes how long each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {OURS: [], PLAIN: []}
        self.cpu_seconds: dict[str, list[float]] = {OURS: [], PLAIN: []}
        self.first_loss: dict[str, float] = {}
        self.errors: dict[str, BaseException] = {}
        self._sides: dict[int, str] = {}
        self._changed = threading.Condition()
        self._next = OURS
        self._there: set[str] = set()
        self._gone: set[str] = set()
        self._began = self._began_cpu = 0.0

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Every Trainer made meanwhile takes part."""
        import transformers.trainer
        from transformers import TrainerCallback

        turns = self

        class TakeTurns(TrainerCallback):  # type: ignore[misc] # its own type is not known to mypy
            def on_train_begin(self, *_args: Any, **_kwargs: Any) -> None:
                turns.wait()

            def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
                turns.hand_over()

            def on_log(self, *_args: Any, logs: dict[str, float], **_kwargs: Any) -> None:
                if "loss" in logs:
                    turns.first_loss.setdefault(turns.side, float(logs["loss"]))

        transformers.trainer.DEFAULT_CALLBACKS.append(TakeTurns)
        yield
        transformers.trainer.DEFAULT_CALLBACKS.remove(TakeTurns)

    @property
    def side(self) -> str:
        return self._sides[threading.get_ident()]

    def take_part(self, side: str, train: Any) -> None:
        self._sides[threading.get_ident()] = side
        try:
            train()
        except BaseException as error:
            self.errors[side] = error
        with self._changed:
            self._gone.add(side)
            self._changed.notify_all()

    def wait_for(self, side: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: side in self._there or side in self._gone)

    def wait(self) -> None:
        """Until both are ready, or the other one has gone, and it is this one's turn."""
        with self._changed:
            self._there.add(self.side)
            self._changed.notify_all()
            self._changed.wait_for(self._my_turn)
        self._began, self._began_cpu = time.perf_counter(), time.process_time()

    def _my_turn(self) -> bool:
        return bool(self._gone) or (len(self._there) == 2 and self._next == self.side)

    def hand_over(self) -> None:
        self.seconds[self.side].append(time.perf_counter() - self._began)
        # The other one waits, so what the process computed is this one's.
        self.cpu_seconds[self.side].append(time.process_time() - self._began_cpu)
        with self._changed:
            self._next = PLAIN if self.side == OURS else OURS
            self._changed.notify_all()
        self.wait()


def train_ours(folder: Path, model: Path, data: Path) -> None:
    from tunestack_train.progress import Console
    from tunestack_train.resolve import Layer, resolve
    from tunestack_train.run import Folders, Run
    from tunestack_train.stop import StopSignal

    given = {"model": str(model), "data": str(data), **SETTINGS}
    folders = Folders(folder / "checkpoints", folder / "logs", folder / "cache")
    Run(resolve("ours", "custom", [Layer("bench", given)]), folders, StopSignal(), Console(io.StringIO())).execute()


def train_plainly(folder: Path, model: Path, data: Path) -> None:
    """As TRL's documentation of QLoRA shows it, with our defaults as its settings."""
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    base = AutoModelForCausalLM.from_pretrained(
        model,
        dtype=torch.bfloat16,
        attn_implementation="eager",
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
    )
    arguments = SFTConfig(
        output_dir=str(folder / "plain"),
        max_steps=STEPS,
        per_device_train_batch_size=SETTINGS["per_device_train_batch_size"],
        gradient_accumulation_steps=SETTINGS["gradient_accumulation_steps"],
        max_length=SETTINGS["max_length"],
        learning_rate=SETTINGS["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        optim="adamw_8bit",
        bf16=True,
        gradient_checkpointing=True,
        logging_steps=SETTINGS["logging_steps"],
        save_steps=STEPS,
        seed=42,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="tensorboard",
        disable_tqdm=True,
    )
    SFTTrainer(
        model=base,
        args=arguments,
        train_dataset=load_dataset("json", data_files=str(data), cache_dir=str(folder / "datasets"))["train"],
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(
            r=32, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    ).train()


def write_data(path: Path) -> Path:
    """Prompts and completions, several turns of the committed conversations each, so that lengths are of use."""
    # In the image the examples stand at the root, else where the project is.
    source = next(folder / DATA for folder in Path(__file__).resolve().parents if (folder / DATA).is_file())
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    texts = [[turn["content"] for turn in row["messages"] if turn["role"] != "system"] for row in rows]
    pairs = [
        {
            "prompt": "\n".join(text for turns in texts[start : start + 3] for text in turns[:-1]) + "\n",
            "completion": "\n".join(turns[-1] for turns in texts[start : start + 3]),
        }
        for start in range(len(texts) - 2)
    ]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    return path


def write_model(folder: Path, data: Path, vocabulary: int) -> Path:
    """A Gemma 2 with the rehearsal's tokenizer, large enough that a step takes the better part of a second."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tunestack_train import rehearsal
    from tunestack_train.data.cache import ContentCache
    from tunestack_train.data.load import load

    with tempfile.TemporaryDirectory() as cache:
        loaded = load(str(data), "auto", drop_bad_rows=False, cache=ContentCache(Path(cache)))
        rehearsal.make_model(folder, loaded.examples(), 42)
    config = AutoConfig.from_pretrained(folder)
    depth = SHAPE["num_hidden_layers"]
    for name, size in SHAPE.items():
        setattr(config, name, size)
    config.vocab_size = vocabulary
    config.layer_types = (list(config.layer_types) * depth)[:depth]
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
