"""A run from its settings to its adapter: prepare, train or go on, and say how it went."""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestack_train import checkpoints, rehearsal
from tunestack_train.data.cache import ContentCache, default_folder
from tunestack_train.data.load import Dropped, TrainingData, load
from tunestack_train.device import choose_device, silence_progress_bars
from tunestack_train.errors import SettingsError, StopRequested, TunestackError
from tunestack_train.estimate.check import check_fit
from tunestack_train.evaluation import Split, best_of, hold_out
from tunestack_train.logs import AllLogs, JsonLines, MetricsLog, TensorBoard, WeightsAndBiases, first_loss, read_metrics
from tunestack_train.manifest import checkpoint_step, complete_checkpoints, newest_complete, problems
from tunestack_train.model import load_base, load_tokenizer, locate_model
from tunestack_train.out_of_memory import SmallerParts, out_of_memory_named
from tunestack_train.presets import REHEARSAL_MODEL
from tunestack_train.progress import Console
from tunestack_train.record import (
    RUN_FILE,
    Origin,
    add_halving,
    halvings,
    require_same,
    require_same_model,
    write_record,
)
from tunestack_train.resolve import Resolved
from tunestack_train.secret_files import read_secret
from tunestack_train.settings import NO_EVAL_DATA, RunConfig
from tunestack_train.status import Failure, Status, StatusFile, now, saved
from tunestack_train.stop import StopSignal

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunestack_train.data.token_set import TokenSet
    from tunestack_train.trainer import RunTrainer

_ADAPTER_FILES: Final = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    RUN_FILE,
)


@dataclass(frozen=True)
class Folders:
    """Where runs keep their checkpoints and their logs, each run in a folder of its name; and what they share."""

    checkpoints: Path
    logs: Path
    cache: Path = field(default_factory=default_folder)


@dataclass(frozen=True)
class Finished:
    """`trained` is False when the run had been completed before and nothing was done."""

    adapter: Path
    steps: int
    first_loss: float | None
    last_loss: float | None
    trained: bool


class Run:
    """One run with its folders, its status file and the console."""

    def __init__(self, resolved: Resolved, folders: Folders, stop: StopSignal, console: Console) -> None:
        self.resolved = resolved
        self.config = resolved.config
        self.folder = folders.checkpoints / self.config.name
        self.logs = folders.logs / self.config.name
        self.adapter = self.folder / "adapter"
        self.cache = ContentCache(folders.cache)
        self.stop = stop
        self.console = console
        self.metrics = self.logs / "metrics.jsonl"
        self.status = StatusFile(self.logs / "status.json", self._first_status())

    def _first_status(self) -> Status:
        config = self.config
        return Status(
            run=config.name,
            preset=config.preset,
            model=config.model,
            started_at=now(),
            max_steps=config.max_steps or None,
        )

    def execute(self) -> Finished:
        """Trains to the end, or says that this was done before. Raises TunestackError for what a person can mend."""
        _make_folder(self.folder)
        _make_folder(self.logs)
        with _exclusive(self.folder):
            if self.adapter.is_dir() and not problems(self.adapter):
                require_same(self.folder, self.config, self._load_data())
                return self._finished(trained=False)
            self.status.start()
            try:
                with _disk_full_named(self.folder):
                    finished = self._prepare_and_train()
            except BaseException as error:
                self._report_failure(error)
                raise
            self._report_completed(finished)
            return finished

    def _prepare_and_train(self) -> Finished:
        say = self.console.say
        data = self._load_data()
        say(f"data: {data.rows:,} rows of {data.data_format} from {data.source}")
        self._say_dropped(data.dropped)
        resume = checkpoints.find_resume_point(self.folder)
        for note in resume.notes:
            say(f"note: {note}")
        if resume.checkpoint is not None:
            self.status.update(last_checkpoint=saved(resume.checkpoint), first_loss=first_loss(self.metrics))
            self._tell_best()
            require_same(self.folder, self.config, data)
        if resume.checkpoint is None or not _is_last(resume.checkpoint):
            self._train(data, resume.checkpoint)
        last = newest_complete(self.folder)
        if last is None or not _is_last(last):
            step = f"after step {self.status.status.step}, checkpoint saved"
            raise StopRequested(f"stopped on request {step}", "start the same run again: it goes on from there")
        self._publish_adapter(last)
        return self._finished(trained=True)

    def _tell_best(self) -> None:
        best = best_of(complete_checkpoints(self.folder))
        if best is not None:
            self.status.update(best_eval_loss=best.eval_loss, best_step=checkpoint_step(best.checkpoint))

    def _load_data(self) -> TrainingData:
        config = self.config
        return load(config.data, config.data_format, drop_bad_rows=config.bad_rows == "drop", cache=self.cache)

    def _train(self, data: TrainingData, checkpoint: Path | None) -> None:
        with out_of_memory_named(self.config):
            self._train_within_memory(data, checkpoint)

    def _train_within_memory(self, data: TrainingData, checkpoint: Path | None) -> None:
        config = self.config
        model_folder = self._model_folder(data)
        self.console.say("loading PyTorch and the training libraries")
        silence_progress_bars()
        device = choose_device(config.device, config.precision)
        self.status.update(device=device.name)
        tokenizer = load_tokenizer(model_folder, config.model)
        from tunestack_train.data.token_set import tokenise
        from tunestack_train.data.tokens import choose_template

        template = choose_template(tokenizer, config.chat_template)
        tokens = tokenise(data, tokenizer, model_folder, config.max_length, self.cache)
        self._say_data(tokens, template)
        origin = Origin(data, model_folder, str(tokenizer.chat_template), device.name)
        require_same_model(self.folder, config, origin)
        write_record(self.folder, self.resolved, origin)
        counts = tokens.counts
        predicted = check_fit(config, model_folder, device, counts.examples, counts.tokens, self.console.say)
        if predicted is not None:
            seconds = None if predicted.duration is None else predicted.duration.seconds
            self.status.update(predicted_memory_bytes=predicted.size, predicted_seconds=seconds)
        from tunestack_train.trainer import RunTrainer, Watcher

        self.console.say(f"model: {config.model} on {device.name}")
        trainer = RunTrainer(
            config,
            self.folder,
            load_base(model_folder, config, device, self.console.say),
            tokenizer,
            self._split(tokens, tokenizer, model_folder),
            device,
            add_inputs=lambda folder: _add_inputs(folder, self.folder, config),
        )
        self._let_halve(trainer)
        self.console.say(trainer.course)
        resume_step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        if checkpoint:
            self.console.say(f"going on after step {resume_step} ({checkpoint})")
        logs = AllLogs(self._metrics_logs(resume_step))
        trainer.add_callback(Watcher(self.folder, device, self.stop, self.status, logs, self.console.progress))
        self.stop.hold()
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finally:
            logs.close()

    def _split(self, tokens: "TokenSet", tokenizer: "PreTrainedTokenizerBase", model_folder: Path) -> Split:
        """What is trained on, and what is held out for evaluation."""
        from tunestack_train.data.token_set import tokenise

        config = self.config
        if config.eval_data == NO_EVAL_DATA:
            split = hold_out(tokens.dataset(), config.eval_share)
            if split.held_out is not None:
                self.console.say(f"evaluation: {len(split.held_out)} of {tokens.counts.examples} examples held out")
            return split
        data = load(config.eval_data, config.data_format, drop_bad_rows=config.bad_rows == "drop", cache=self.cache)
        held_out = tokenise(data, tokenizer, model_folder, config.max_length, self.cache)
        self.console.say(f"evaluation: {held_out.counts.examples} examples of {data.source}")
        return Split(tokens.dataset(), held_out.dataset())

    def _let_halve(self, trainer: "RunTrainer") -> None:
        config = self.config
        if config.on_oom != "halve":
            return
        effective = config.per_device_train_batch_size * config.gradient_accumulation_steps

        def on_halved(step: int, size: int) -> None:
            passes = ceil(config.per_device_train_batch_size / size) * config.gradient_accumulation_steps
            changed = {"per_device_train_batch_size": size, "gradient_accumulation_steps": passes}
            self.console.say(
                f"note: memory ran out in step {step + 1}; it is done again in {passes} passes of {size} sequences, "
                f"and the run goes on so: {effective} sequences in a step as before. The settings for the next run: "
                + " ".join(f"--set {key}={value}" for key, value in changed.items())
            )
            add_halving(self.folder, {"step": step + 1, **changed})
            self.status.update(**changed)

        earlier = [each["per_device_train_batch_size"] for each in halvings(self.folder)]
        size = min([config.per_device_train_batch_size, *earlier])
        trainer.smaller_parts = SmallerParts(size, on_halved)

    def _model_folder(self, data: TrainingData) -> Path:
        config = self.config
        if config.model != REHEARSAL_MODEL:
            token = read_secret("hf-token", "HF_TOKEN")
            return locate_model(config.model, config.model_revision, token, self.console.say)
        folder = self.folder / "model"
        if problems(folder) or newest_complete(self.folder) is None:
            self.console.say("making a tiny Gemma 2 and its tokenizer from the data")
            rehearsal.make_model(folder, data.examples(), config.seed)
        return folder

    def _say_data(self, tokens: "TokenSet", template: str) -> None:
        counts, dropped = tokens.counts, tokens.dropped
        cut = f", {counts.cut} cut at {self.config.max_length}" if counts.cut else ""
        self.console.say(
            f"tokens: {counts.tokens:,} in {counts.examples} examples, {counts.learnt / counts.tokens:.0%} of them "
            f"learnt{cut}; chat template: {template}"
        )
        self._say_dropped(dropped)

    def _say_dropped(self, dropped: Dropped) -> None:
        for row in dropped.first[:5]:
            self.console.say(f"note: left out {row}")
        if dropped.count > 5:
            self.console.say(f"note: left out {dropped.count - 5} more")

    def _metrics_logs(self, resume_step: int) -> list[MetricsLog]:
        logs: list[MetricsLog] = [
            JsonLines(self.metrics, resume_step, now),
            TensorBoard(self.logs / "tensorboard", resume_step),
        ]
        key = read_secret("wandb-api-key", "WANDB_API_KEY")
        if key is not None:
            try:
                logs.append(WeightsAndBiases(self.config, self.logs, key))
            except Exception as error:  # whatever is wrong with W&B, the run goes on without it
                self.console.say(f"note: Weights & Biases gets nothing of this run: {error}")
        return logs

    def _publish_adapter(self, checkpoint: Path) -> None:
        """The adapter is that of the last checkpoint, byte for byte, without what only going on needs."""

        def fill(folder: Path) -> None:
            for name in _ADAPTER_FILES:
                if (checkpoint / name).is_file():
                    shutil.copyfile(checkpoint / name, folder / name)

        checkpoints.write_folder(self.adapter, fill)

    def _finished(self, *, trained: bool) -> Finished:
        losses = [entry["loss"] for entry in read_metrics(self.metrics) if isinstance(entry.get("loss"), int | float)]
        newest = newest_complete(self.folder)
        return Finished(
            self.adapter,
            int(newest.name.rpartition("-")[2]) if newest else self.config.max_steps,
            float(str(losses[0])) if losses else None,
            float(str(losses[-1])) if losses else None,
            trained,
        )

    def _report_completed(self, finished: Finished) -> None:
        self.status.end(
            state="completed",
            step=finished.steps,
            max_steps=finished.steps,
            loss=finished.last_loss,
            eta_seconds=0.0,
            adapter=str(finished.adapter),
            exit_code=0,
        )

    def _report_failure(self, error: BaseException) -> None:
        if isinstance(error, TunestackError):
            state = "stopped" if isinstance(error, StopRequested) else "failed"
            failure = None if state == "stopped" else Failure(error.message, error.remedy)
            self.status.end(state=state, eta_seconds=None, error=failure, exit_code=error.exit_code)
        else:
            failure = Failure(f"{type(error).__name__}: {error}", "this is a defect of tunestack; see the run's log")
            self.status.end(state="failed", eta_seconds=None, error=failure, exit_code=1)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK | os.X_OK)
    except PermissionError:
        writable = False
    if not writable:
        raise SettingsError(
            f"{folder} cannot be written by user {os.getuid()}",
            "give the folder to that user; in Docker, the volumes' content belongs to 1000:1000",
        )


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One process at a time may work on a run; the lock ends with the process, however that ends."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"the run {folder.name} is being trained by another process",
                "follow that one (train-logs), stop it (train-stop), or give this run another name",
            ) from None
        yield


@contextlib.contextmanager
def _disk_full_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not checkpoints.is_disk_full(error, folder):
            raise
        raise checkpoints.disk_full(Path(error.filename or folder)) from error


def _is_last(checkpoint: Path) -> bool:
    """Whether a complete checkpoint is the one at the end of its run."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return int(state["global_step"]) >= int(state["max_steps"])


def _add_inputs(checkpoint: Path, run_folder: Path, config: RunConfig) -> None:
    """What a run can be repeated from, and the model's id in place of its folder in this machine's cache."""
    shutil.copyfile(run_folder / RUN_FILE, checkpoint / RUN_FILE)
    if config.model == REHEARSAL_MODEL:
        return
    path = checkpoint / "adapter_config.json"
    adapter = json.loads(path.read_text(encoding="utf-8"))
    adapter["base_model_name_or_path"] = config.model
    adapter["revision"] = config.model_revision
    path.write_text(json.dumps(adapter, indent=2) + "\n", encoding="utf-8")
