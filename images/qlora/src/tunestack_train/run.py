"""A run from its settings to its adapter: prepare, train or go on, and say how it went."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestack_train import checkpoints
from tunestack_train.checkpoint_writer import CheckpointWriter
from tunestack_train.data.cache import ContentCache, default_folder
from tunestack_train.data.load import TrainingData
from tunestack_train.device import choose_device, importing, silence_progress_bars
from tunestack_train.ending import alerts, tell_webhook
from tunestack_train.errors import StopRequested, TunestackError
from tunestack_train.estimate.check import check_fit
from tunestack_train.evaluation import best_of
from tunestack_train.inputs import Inputs
from tunestack_train.log_threads import METRICS, AllLogs, open_logs
from tunestack_train.logs import first_loss, read_metrics
from tunestack_train.manifest import (
    checkpoint_step,
    complete_checkpoints,
    newest_complete,
    problems,
)
from tunestack_train.model import load_base
from tunestack_train.model_card import CURVE, write_card
from tunestack_train.out_of_memory import SmallerParts, out_of_memory_named
from tunestack_train.plots import draw_curve
from tunestack_train.processes import Processes
from tunestack_train.progress import Console, silent_console
from tunestack_train.record import (
    RUN_FILE,
    Origin,
    add_halving,
    halvings,
    require_same,
    require_same_origin,
    write_record,
)
from tunestack_train.resolve import Resolved
from tunestack_train.run_folder import add_inputs, disk_full_named, exclusive, is_last, make_writable
from tunestack_train.sharding import require_possible
from tunestack_train.status import Failure, Status, StatusFile, UnwrittenStatus, now, saved
from tunestack_train.stop import Interrupted, StopSignal

if TYPE_CHECKING:
    from tunestack_train.trainer import RunTrainer

_SECONDS_FOR_LOGS: Final = 60.0
# A preempted pod has 15 seconds, and its checkpoint took some of them.
_SECONDS_FOR_LOGS_WHEN_STOPPED: Final = 3.0
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
        self.stop = stop
        self.processes = Processes.from_environment()
        self.console = console if self.processes.first else silent_console()
        self.inputs = Inputs(self.config, self.folder, ContentCache(folders.cache), self.processes, self.console)
        self.metrics = self.logs / METRICS
        status_file = StatusFile if self.processes.first else UnwrittenStatus
        self.status = status_file(self.logs / "status.json", self._first_status())

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
        with self.processes.loss_named():
            self.processes.connect()
            self.processes.by_first(lambda: require_possible(self.config.distributed, self.processes))
            self.processes.by_first(self._make_folders)
            with self._exclusive():
                if self.processes.by_first(self._was_finished):
                    return self._finished(trained=False)
                return self._prepare_train_and_report()

    def _prepare_train_and_report(self) -> Finished:
        self.status.start()
        try:
            with self.processes.loss_named(), disk_full_named(self.folder):
                finished = self._prepare_and_train()
        except Interrupted as request:
            stopped = request.as_error()
            self._report_failure(stopped)
            raise stopped from None
        except BaseException as error:
            self._report_failure(error)
            self._tell_webhook()
            raise
        self._report_completed(finished)
        self._tell_webhook()
        return finished

    def _tell_webhook(self) -> None:
        if self.processes.first:
            tell_webhook(self.status.status, self.console.say)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """The first process holds the run's lock for all."""
        with contextlib.ExitStack() as held:
            self.processes.by_first(lambda: held.enter_context(exclusive(self.folder)))
            yield

    def _make_folders(self) -> None:
        make_writable(self.folder)
        make_writable(self.logs)

    def _was_finished(self) -> bool:
        if not self.adapter.is_dir() or problems(self.adapter):
            return False
        require_same(self.folder, self.config, self.inputs.load_data())
        return True

    def _prepare_and_train(self) -> Finished:
        # The others find what the first one has prepared: its model in the folder, its tokens in the cache.
        checkpoint = self.processes.by_first(self._find_start)
        data = self.inputs.load_data()
        if checkpoint is None or not is_last(checkpoint):
            self._train(data, checkpoint)
        self.processes.by_first(self._conclude)
        return self._finished(trained=True)

    def _find_start(self) -> Path | None:
        """Reads the data, and finds the checkpoint to go on from."""
        say = self.console.say
        data = self.inputs.load_data()
        say(f"data: {data.rows:,} rows of {data.data_format} from {data.source}")
        self.inputs.say_dropped(data.dropped)
        resume = checkpoints.find_resume_point(self.folder)
        for note in resume.notes:
            say(f"note: {note}")
        if resume.checkpoint is not None:
            self.status.update(last_checkpoint=saved(resume.checkpoint), first_loss=first_loss(self.metrics))
            self._tell_best()
            require_same(self.folder, self.config, data)
        return resume.checkpoint

    def _conclude(self) -> None:
        """Publishes the last checkpoint's adapter. Raises StopRequested when there is none yet."""
        last = newest_complete(self.folder)
        if last is None:
            raise StopRequested(
                "stopped on request within the first step, with nothing to save yet",
                "start the same run again: it begins anew",
            )
        if not is_last(last):
            with contextlib.suppress(OSError):  # a picture of what was done so far, where there is room for it
                self._draw_curve(self.logs / CURVE)
            raise StopRequested(
                f"stopped on request after step {checkpoint_step(last)}, checkpoint saved",
                "start the same run again: it goes on from there",
            )
        self._publish_adapter(last)

    def _tell_best(self) -> None:
        best = best_of(complete_checkpoints(self.folder))
        if best is not None:
            self.status.update(best_eval_loss=best.eval_loss, best_step=checkpoint_step(best.checkpoint))

    def _train(self, data: TrainingData, checkpoint: Path | None) -> None:
        with out_of_memory_named(self.config):
            self._train_within_memory(data, checkpoint)

    def _train_within_memory(self, data: TrainingData, checkpoint: Path | None) -> None:
        config = self.config
        model_folder = self.inputs.model_folder(data)
        self.console.say("loading PyTorch and the training libraries")
        with importing():
            silence_progress_bars()
            device = choose_device(config.device, config.precision)
        self.status.update(device=device.name)
        tokenizer, tokens = self.inputs.tokenise(data, model_folder)
        origin = Origin(data, model_folder, str(tokenizer.chat_template), device.name, self.processes.count)
        self.processes.by_first(lambda: self._record(origin))
        counts = tokens.counts
        predicted = check_fit(
            config, model_folder, device, self.processes.count, counts.examples, counts.tokens, self.console.say
        )
        if predicted is not None:
            seconds = None if predicted.duration is None else predicted.duration.seconds
            self.status.update(predicted_memory_bytes=predicted.size, predicted_seconds=seconds)
        with importing():
            from tunestack_train.trainer import RunTrainer, Saving
            from tunestack_train.watcher import Watcher

        self.console.say(f"model: {config.model} on {device.name}")
        self.console.say(self._describe_batch())
        saving = Saving(
            self.processes,
            CheckpointWriter(
                self.folder,
                config.save_total_limit,
                lambda written: self.status.update(last_checkpoint=saved(written)),
                background=config.save_in_background,
            ),
            add_inputs=lambda folder: add_inputs(folder, self.folder, config),
            give_way=lambda: self.stop.requested,
        )
        trainer = RunTrainer(
            config,
            self.folder,
            load_base(model_folder, config, device, self.console.say),
            tokenizer,
            self.inputs.split(tokens, tokenizer, model_folder),
            device,
            saving,
        )
        self._let_halve(trainer)
        if trainer.shares is not None:
            self.console.say(trainer.shares.describe())
        self.console.say(trainer.course)
        resume_step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
        if checkpoint:
            self.console.say(f"going on after step {resume_step} ({checkpoint})")
        logs = self._open_logs(resume_step)
        trainer.add_callback(Watcher(trainer, device, self.stop, self.status, logs, self.console.progress))
        self.stop.hold()
        try:
            with alerts(logs, lambda: self.status.status, self.stop):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finally:
            # The checkpoint first: logs may wait for a server.
            saving.writer.finish()
            logs.close(_SECONDS_FOR_LOGS_WHEN_STOPPED if self.stop.requested else _SECONDS_FOR_LOGS)
        self.processes.by_first(saving.writer.wait)

    def _open_logs(self, resume_step: int) -> AllLogs:
        return open_logs(self.config, self.logs, resume_step, self.console.say) if self.processes.first else AllLogs([])

    def _record(self, origin: Origin) -> None:
        require_same_origin(self.folder, self.config, origin)
        write_record(self.folder, self.resolved, origin)

    def _describe_batch(self) -> str:
        size, accumulation = self.config.per_device_train_batch_size, self.config.gradient_accumulation_steps
        count = self.processes.count
        several = f" x {count} processes" if self.processes.several else ""
        return f"batch: {size} x {accumulation} accumulated{several} = {size * accumulation * count} sequences a step"

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

    def _publish_adapter(self, checkpoint: Path) -> None:
        """The adapter is that of the last checkpoint, byte for byte, without what only going on needs."""

        def fill(folder: Path) -> None:
            for name in _ADAPTER_FILES:
                if (checkpoint / name).is_file():
                    shutil.copyfile(checkpoint / name, folder / name)
            metrics = read_metrics(self.metrics)
            curve = self._draw_curve(folder / CURVE)
            steps = checkpoint_step(checkpoint) or 0
            write_card(folder, metrics, checkpoint / RUN_FILE, steps=steps, curve=curve)

        checkpoints.write_folder(self.adapter, fill)

    def _draw_curve(self, path: Path) -> bool:
        """A picture that cannot be drawn is no reason to lose an adapter; a full disk is none to have half of one."""
        try:
            return draw_curve(path, read_metrics(self.metrics), self.config.name)
        except Exception as error:
            if checkpoints.disk_error(error, path.parent) is not None:
                raise
            self.console.say(f"note: the curve of the run could not be drawn: {error}")
            path.unlink(missing_ok=True)
            return False

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
        self.stop.hold()
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
        self.stop.hold()
        if isinstance(error, TunestackError):
            state = "stopped" if isinstance(error, StopRequested) else "failed"
            failure = None if state == "stopped" else Failure(error.message, error.remedy)
            self.status.end(state=state, eta_seconds=None, error=failure, exit_code=error.exit_code)
        else:
            failure = Failure(f"{type(error).__name__}: {error}", "this is a defect of tunestack; see the run's log")
            self.status.end(state="failed", eta_seconds=None, error=failure, exit_code=1)
