"""TRL's SFTTrainer with checkpoints that are whole or not there, requests to stop, and figures for whoever watches.

Importing this imports torch, transformers and trl, which takes seconds: import it where it is used.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback
from trl.trainer.sft_config import SFTConfig

from tunestack_train import checkpoints
from tunestack_train.batches import Collator, describe_course, training_rows
from tunestack_train.device import Device, memory_in_use
from tunestack_train.evaluation import EVAL_LOSS, Split
from tunestack_train.evaluator import EvaluateAtCheckpoints, evaluating, held_out_loss
from tunestack_train.learning import LearningTrainer, Tally
from tunestack_train.logs import MetricsLog
from tunestack_train.settings import RunConfig
from tunestack_train.status import Status, StatusFile, saved
from tunestack_train.stop import StopSignal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerControl, TrainerState, TrainingArguments

    from tunestack_train.out_of_memory import Batch, SmallerParts


class RunTrainer(LearningTrainer):
    """Writes each checkpoint aside, with what `add_inputs` puts beside the weights, and renames it into place."""

    def __init__(
        self,
        config: RunConfig,
        run_folder: Path,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        split: Split,
        device: Device,
        add_inputs: Callable[[Path], None],
    ) -> None:
        self._run_folder = run_folder
        self._save_total_limit = config.save_total_limit
        self._add_inputs = add_inputs
        self._writing_to: Path | None = None
        self._held_out = split.held_out
        self.smaller_parts: SmallerParts | None = None
        """Set it to let passes become smaller when memory runs out."""
        self._figures_before = (-1, Tally())
        flatten = model.config._attn_implementation == "flash_attention_2"
        rows = training_rows(split.training, config)
        super().__init__(
            model=model,
            args=_arguments(config, run_folder, device),
            data_collator=Collator(int(tokenizer.pad_token_id or 0), flatten=flatten),
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=_lora(config),
        )
        self.course = describe_course(rows, split.training, config, self.accelerator.num_processes)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        if split.held_out is not None:
            self.add_callback(EvaluateAtCheckpoints(config.eval_steps))
        # SFTTrainer makes them bf16, but a checkpoint is loaded as float32: a resumed run would drift.
        for parameter in self.accelerator.unwrap_model(self.model).parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.float32)

    def evaluate(self, *args: object, **kwargs: object) -> dict[str, float]:
        """The loss on what was held out, in nats for each learnt token, logged as `eval_loss`."""
        if self._held_out is None:
            return {}
        with evaluating(self):
            began = time.monotonic()
            metrics = {EVAL_LOSS: held_out_loss(self, self._held_out, self.args.per_device_train_batch_size)}
            metrics["eval_runtime"] = time.monotonic() - began
            self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def training_step(self, model: torch.nn.Module, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        # The parts of a pass add up to it only where the loss is divided by the tokens of the whole step. Several
        # processes must all do as many backward passes, so one of them cannot do more by itself.
        if self.smaller_parts is None or num_items_in_batch is None or self.accelerator.num_processes > 1:
            return self._one_pass(model, inputs, num_items_in_batch)
        if self._figures_before[0] != self.state.global_step:
            self._figures_before = (self.state.global_step, self.tallies["train"])

        def reset() -> None:
            model.zero_grad()
            self.tallies["train"] = self._figures_before[1]

        def one_pass(part: "Batch") -> torch.Tensor:
            return self._one_pass(model, part, num_items_in_batch)

        return self.smaller_parts.run(self.state.global_step, inputs, one_pass, reset)

    def _one_pass(self, model: torch.nn.Module, inputs: "Batch", num_items_in_batch: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[no-untyped-call]
        return loss

    def _get_output_dir(self, trial: object) -> str:
        return str(self._writing_to) if self._writing_to else str(super()._get_output_dir(trial))

    def _save_checkpoint(self, model: torch.nn.Module, trial: object) -> None:
        name = f"checkpoint-{self.state.global_step}"

        def fill(partial: Path) -> None:
            self._writing_to = partial
            # Past SFTTrainer, which writes a model card into the run's folder first.
            Trainer._save_checkpoint(self, model, trial)
            # The Trainer makes a folder of its own in the one that it is told to write to.
            for path in (partial / name).iterdir():
                path.rename(partial / path.name)
            (partial / name).rmdir()
            self._add_inputs(partial)

        try:
            checkpoints.write_folder(self._run_folder / name, fill)
        finally:
            self._writing_to = None
        checkpoints.remove_old(self._run_folder, self._save_total_limit)


class Watcher(TrainerCallback):
    """Between the Trainer and the world: asks it to stop when that was requested, and tells what it does."""

    def __init__(
        self,
        run_folder: Path,
        device: Device,
        stop: StopSignal,
        status: StatusFile,
        logs: MetricsLog,
        show: Callable[[Status], None],
    ) -> None:
        self._run_folder = run_folder
        self._device = device
        self._stop = stop
        self._status = status
        self._logs = logs
        self._show = show
        self._pace = Pace()

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        # The state of a checkpoint says how often the run saved and logged before; what is set now counts.
        state.compute_steps(args, state.max_steps)
        self._pace.start(state.global_step)
        self._status.update(state="training", step=state.global_step, max_steps=state.max_steps)

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        if _any_process(self._stop):
            control.should_log = True
            control.should_save = True
            control.should_training_stop = True
        self._status.update(state="saving" if control.should_save else "training", step=state.global_step)

    def on_log(
        self,
        args: "TrainingArguments",
        state: "TrainerState",
        control: "TrainerControl",
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs and EVAL_LOSS in logs:
            self._on_evaluation(float(logs[EVAL_LOSS]), state.global_step)
            self._pace.leave_out(float(logs["eval_runtime"]))
        if not logs or "loss" not in logs:
            return
        speed = self._pace.interval(logs.get("num_tokens"))
        eta = self._pace.seconds_left(state.global_step, state.max_steps)
        memory = memory_in_use(self._device)
        figures = {key: float(value) for key, value in logs.items() if isinstance(value, int | float)}
        extra = {"tokens_per_second": speed, "gpu_memory_bytes": memory}
        self._logs.log(
            figures | {key: float(value) for key, value in extra.items() if value is not None}, state.global_step
        )
        loss = figures["loss"]
        first = self._status.status.first_loss
        self._status.update(
            step=state.global_step,
            loss=loss if math.isfinite(loss) else None,
            first_loss=loss if first is None and math.isfinite(loss) else first,
            learning_rate=figures.get("learning_rate"),
            tokens_per_second=speed,
            eta_seconds=eta,
            gpu_memory_bytes=memory,
        )
        self._show(self._status.status)

    def _on_evaluation(self, loss: float, step: int) -> None:
        self._logs.log({EVAL_LOSS: loss}, step)
        best = self._status.status.best_eval_loss
        if math.isfinite(loss):
            better = {"best_eval_loss": loss, "best_step": step} if best is None or loss < best else {}
            self._status.update(eval_loss=loss, **better)

    def on_save(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        checkpoint = self._run_folder / f"checkpoint-{state.global_step}"
        self._status.update(state="training", last_checkpoint=saved(checkpoint))


class Pace:
    """Speed of a run since this process began it."""

    def __init__(self) -> None:
        self._began = self._interval_began = time.monotonic()
        self._first_step = 0
        self._tokens = 0.0

    def start(self, step: int) -> None:
        self._began = self._interval_began = time.monotonic()
        self._first_step = step
        self._tokens = 0.0

    def interval(self, tokens: float | None) -> float | None:
        """Tokens a second since the last call; `tokens` counts from the start of the process."""
        now = time.monotonic()
        seconds, self._interval_began = now - self._interval_began, now
        if tokens is None or seconds <= 0:
            return None
        fresh, self._tokens = tokens - self._tokens, tokens
        return fresh / seconds

    def leave_out(self, seconds: float) -> None:
        """Time that went by without training."""
        self._began += seconds
        self._interval_began += seconds

    def seconds_left(self, step: int, max_steps: int) -> float | None:
        done = step - self._first_step
        return (time.monotonic() - self._began) / done * (max_steps - step) if done > 0 else None


def _any_process(stop: StopSignal) -> bool:
    """Whether any process of the training was asked to: all must stop after the same step."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return stop.requested
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    flag = torch.tensor(int(stop.requested), device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


def _lora(config: RunConfig) -> LoraConfig:
    modules = config.lora_target_modules
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=modules if modules == "all-linear" else modules.split(","),
        bias="none",
        task_type="CAUSAL_LM",
    )


def _arguments(config: RunConfig, run_folder: Path, device: Device) -> SFTConfig:
    return SFTConfig(
        output_dir=str(run_folder),
        max_steps=config.max_steps or -1,
        num_train_epochs=config.num_train_epochs,
        per_device_train_batch_size=config.per_device_train_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        warmup_steps=config.warmup_ratio,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=config.optim,
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        gradient_checkpointing=config.gradient_checkpointing,
        seed=config.seed,
        data_seed=config.seed,
        use_cpu=device.kind == "cpu",
        **_loading(config, device),
        # Examples come tokenised, labelled, cut and packed.
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.save_steps,
        report_to="none",
        disable_tqdm=True,
    )


def _loading(config: RunConfig, device: Device) -> dict[str, Any]:
    """Batches are made by other processes and copied from pinned memory while the GPU computes.

    A CPU computes longer than a batch takes to make, and has no cores to spare.
    """
    cuda = device.kind == "cuda"
    workers = int(config.dataloader_workers.replace("auto", "2" if cuda else "0"))
    ahead = {"dataloader_prefetch_factor": 2, "dataloader_persistent_workers": True} if workers else {}
    return {
        "dataloader_num_workers": workers,
        "dataloader_pin_memory": cuda,
        "accelerator_config": {"non_blocking": cuda},
        **ahead,
    }
