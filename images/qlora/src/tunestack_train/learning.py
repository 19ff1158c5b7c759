"""SFTTrainer with our loss, batches and figures: what is learnt in a step, and what is told of it.

Importing this imports torch, transformers and trl, which takes seconds: import it where it is used.
"""

from collections import defaultdict
from typing import Any

import torch
from peft import PeftModel
from trl.trainer.sft_trainer import SFTTrainer

from tunestack_train.batches import COUNTED
from tunestack_train.loss import LossSums, add_loss_sums


class LearningTrainer(SFTTrainer):
    """Takes the loss from `loss`, and waits for the device only when figures are logged.

    SFTTrainer's own loss compiles a kernel on CUDA, which takes a C compiler, computes the logits twice, and reads
    three figures back from the device in every forward pass.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        unwrapped = self.accelerator.unwrap_model(self.model)
        base: Any = unwrapped.get_base_model() if isinstance(unwrapped, PeftModel) else unwrapped
        self._place(unwrapped, base)
        self.logits_in_chunks = add_loss_sums(base)
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        """Figures since the last log, of `train` and `eval`."""
        self.tokens_trained = 0.0

    def _place(self, model: torch.nn.Module, base: Any) -> None:
        """Called once `base` has its adapter, and before it computes anything."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the Trainer's signature
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The mean over the learnt tokens of this batch, or of all that the Trainer counted for the step."""
        inputs = dict(inputs)
        token_counts = inputs.pop(COUNTED)
        if self.aux_loss_enabled:
            # The experts' balance is part of the loss, and TRL knows how.
            return super().compute_loss(  # type: ignore[no-untyped-call]
                model, inputs, return_outputs, num_items_in_batch
            )
        sums: LossSums = model(**inputs, use_cache=False, loss_sums=True)
        count = sums.tokens if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        loss = sums.loss / count.clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            # It counts the tokens of all processes, and DDP takes the mean of their gradients.
            loss = loss * self.accelerator.num_processes
        self.tallies[self._mode] = self.tallies[self._mode].plus(sums, token_counts)
        if not return_outputs:
            return loss
        with torch.no_grad():
            return loss, model(**{name: value for name, value in inputs.items() if name != "labels"})

    @property
    def _mode(self) -> str:
        return "train" if self.model is not None and self.model.training else "eval"

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds what SFTTrainer does, under its names: entropy in nats, token accuracy, tokens since the start."""
        mode = self._mode
        figures = self.tallies.pop(mode, Tally()).read(self.accelerator)
        if mode == "train":
            self.tokens_trained += figures["tokens"]
        if figures["learnt"]:
            self._metrics[mode]["entropy"] = [figures["entropy"] / figures["learnt"]]
            self._metrics[mode]["mean_token_accuracy"] = [figures["correct"] / figures["learnt"]]
            self._metrics[mode]["num_tokens"] = [self.tokens_trained]
        super().log(logs, start_time)


class Tally:
    """Figures added up where they are computed, and read back once. None of it changes: adding gives another."""

    def __init__(self, sums: torch.Tensor | None = None) -> None:
        self.sums = sums

    def plus(self, sums: LossSums, token_counts: torch.Tensor) -> "Tally":
        """`token_counts`: the tokens of each row, without padding."""
        figures = torch.stack([part.float() for part in (sums.entropy, sums.correct, sums.tokens, token_counts.sum())])
        figures = figures.detach()
        return Tally(figures if self.sums is None else self.sums + figures)

    def read(self, accelerator: Any) -> dict[str, float]:
        """Over all processes, which must all ask: `entropy`, `correct`, `learnt` and `tokens`."""
        own = torch.zeros(4, device=accelerator.device) if self.sums is None else self.sums
        values = accelerator.reduce(own, reduction="sum").tolist()
        return dict(zip(("entropy", "correct", "learnt", "tokens"), values, strict=True))
