"""TRL's SFTTrainer with checkpoints that are whole or not there, requests to stop, and figures for whoever watches.

Importing this imports torch, transformers and trl, which takes seconds: import it where it is used.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl.trainer.sft_config import SFTConfig

from tunestack_train.adapter import drop_quickly, keep_in_float32, lora_config
from tunestack_train.batches import Collator, describe_course, training_rows
from tunestack_train.checkpoint_writer import CheckpointWriter
from tunestack_train.device import Device
from tunestack_train.evaluation import EVAL_LOSS, Split
from tunestack_train.evaluator import EvaluateAtCheckpoints, evaluating, held_out_loss
from tunestack_train.learning import LearningTrainer, Tally
from tunestack_train.processes import Processes
from tunestack_train.settings import RunConfig
from tunestack_train.sharding import FSDP, Shares, share_out
from tunestack_train.snapshot import (
    ProcessState,
    Snapshot,
    adapter_weights,
    copied,
    random_state,
    read_interval,
    static_files,
    trainer_state_text,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerControl, TrainerState, TrainingArguments

    from tunestack_train.out_of_memory import Batch, SmallerParts


@dataclass(frozen=True)
class Saving:
    """How a trainer saves: which processes have a part in it, who writes, and what is added beside the weights."""

    processes: Processes
    writer: CheckpointWriter
    add_inputs: Callable[[Path], None]
    give_way: Callable[[], bool]
    """Whether an evaluation should end early: a checkpoint waits for it, and this process was asked to stop."""


class RunTrainer(LearningTrainer):
    """Copies its state where the Trainer would write it, and hands the copy to the checkpoints' writer."""

    def __init__(
        self,
        config: RunConfig,
        run_folder: Path,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        split: Split,
        device: Device,
        saving: Saving,
    ) -> None:
        self._held_out = split.held_out
        self.smaller_parts: SmallerParts | None = None
        """Set it to let passes become smaller when memory runs out."""
        self._figures_before = (-1, Tally())
        flatten = model.config._attn_implementation == "flash_attention_2"
        rows = training_rows(split.training, config)
        self.saving = saving
        self._tokenizer = tokenizer
        self._static: dict[str, bytes] | None = None
        self._before_step: ProcessState | None = None
        self._config, self._device = config, device
        self.shares: Shares | None = None
        """What this process holds of the base model, where it is shared out."""
        self.evaluation_postponed = False
        super().__init__(
            model=model,
            args=_arguments(config, run_folder, device),
            data_collator=Collator(int(tokenizer.pad_token_id or 0), flatten=flatten),
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=lora_config(config),
        )
        self.course = describe_course(rows, split.training, config, self.accelerator.num_processes)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.add_callback(_Remember(self))
        if split.held_out is not None:
            self.add_callback(EvaluateAtCheckpoints(config.eval_steps))
        adapted = self.accelerator.unwrap_model(self.model)
        keep_in_float32(adapted)
        if device.kind == "cpu":
            drop_quickly(adapted)

    def _place(self, model: torch.nn.Module, base: Any) -> None:
        if self._config.distributed == FSDP:
            self.shares = share_out(model, base, self._device, self.saving.processes)

    def _wrap_model(self, model: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.nn.Module:
        if self.shares is None or isinstance(model, DistributedDataParallel):
            return super()._wrap_model(model, *args, **kwargs)
        # accelerate refuses DDP where anything is shared out. What is trained is not, and DDP can leave the rest alone.
        set_ignored: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        set_ignored(model, list(self.shares.names))
        prepared = self.accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
        return DistributedDataParallel(prepared, **self.accelerator.ddp_handler.to_kwargs())

    def evaluate(self, *args: object, **kwargs: object) -> dict[str, float]:
        """The loss on what was held out, in nats for each learnt token, logged as `eval_loss`."""
        if self._held_out is None:
            return {}
        with evaluating(self):
            began = time.monotonic()
            loss = self._held_out_loss(self._held_out)
            if loss is None:
                self.evaluation_postponed = True
                return {}
            metrics = {EVAL_LOSS: loss}
            metrics["eval_runtime"] = time.monotonic() - began
            self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _held_out_loss(self, held_out: "Dataset") -> float | None:
        size, saving = self.args.per_device_train_batch_size, self.saving
        in_step = self.shares is not None
        return held_out_loss(self, held_out, size, saving.processes, saving.give_way, in_step=in_step)

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

    def _save_checkpoint(self, model: torch.nn.Module, trial: object) -> None:
        processes, writer = self.saving.processes, self.saving.writer
        self.store_flos()
        before = self._before_step
        within_step = before is not None and before.step == self.state.global_step
        own = before if before is not None and within_step else self._process_state()
        everyone = processes.gather(own.on_cpu())
        # One copy at a time takes up memory.
        writer.finish()
        if not processes.first or writer.failed:
            return
        snapshot = self._snapshot(everyone)

        def fill(folder: Path) -> None:
            snapshot.write(folder)
            self.saving.add_inputs(folder)

        writer.write(self.state.global_step, fill)

    def _snapshot(self, everyone: list[ProcessState]) -> Snapshot:
        model = self.accelerator.unwrap_model(self.model)
        if self._static is None:
            self._static = static_files(model, self._tokenizer)
        optimizer, scheduler, scaler = self.optimizer, self.lr_scheduler, self.accelerator.scaler
        if optimizer is None or scheduler is None:
            raise RuntimeError("a checkpoint was asked for before training began")
        return Snapshot(
            adapter=adapter_weights(model),
            optimizer=copied(optimizer.state_dict()),
            scheduler=copied(scheduler.state_dict()),  # type: ignore[no-untyped-call]
            scaler=None if scaler is None else copied(scaler.state_dict()),
            trainer_state=trainer_state_text(self.state),
            processes=everyone,
            static=self._static,
        )

    def remember_before_step(self) -> None:
        """Keeps what a step changes before it ends, so that one cut short can be done again from its beginning."""
        self._before_step = self._process_state()

    def _process_state(self) -> ProcessState:
        return ProcessState(
            step=self.state.global_step,
            random=random_state(several_processes=self.saving.processes.several),
            loss_sum=self._tr_loss.detach().clone(),
            last_logged_step=self._globalstep_last_logged,
            figures=self.tallies["train"].sums,
            tokens_trained=self.tokens_trained,
            evaluation_postponed=self.evaluation_postponed,
        )

    def _load_rng_state(self, checkpoint: str | None) -> None:
        # The Trainer calls this once when it resumes, after it has set its sums to nothing.
        super()._load_rng_state(checkpoint)
        interval = read_interval(Path(checkpoint), self.saving.processes.rank) if checkpoint else None
        if interval is not None:
            self._tr_loss += interval["loss_sum"]
            self._globalstep_last_logged = interval["last_logged_step"]
            figures = interval["figures"]
            self.tallies["train"] = Tally(None if figures is None else torch.tensor(figures, device=self.args.device))
            self.tokens_trained = interval["tokens_trained"]
            if interval["evaluation_postponed"]:
                self.evaluate()


class _Remember(TrainerCallback):
    """Tells the trainer when a step begins."""

    def __init__(self, trainer: RunTrainer) -> None:
        self._trainer = trainer
        self._epoch_began_at = -1

    def on_epoch_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        # A checkpoint between epochs is resumed before the order of the next one is drawn.
        self._trainer.remember_before_step()
        self._epoch_began_at = state.global_step

    def on_step_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        if state.global_step != self._epoch_began_at:
            self._trainer.remember_before_step()


class _LeftInPlace(SFTConfig):
    """Tells the Trainer to leave the model where it is: of one that is to be shared out, a part goes to the device."""

    @property
    def place_model_on_device(self) -> bool:
        return False


def _arguments(config: RunConfig, run_folder: Path, device: Device) -> SFTConfig:
    arguments = _LeftInPlace if config.distributed == FSDP else SFTConfig
    return arguments(
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
        # Every trained weight takes part in every step: there is none to look for.
        ddp_find_unused_parameters=False,
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
