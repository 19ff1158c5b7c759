"""The evaluation of a run while it trains: when it is done, and the loss on what was held out.

Importing this imports torch and transformers, which takes seconds: import it where it is used.
"""

import contextlib
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainerCallback

from tunestack_train.evaluation import batches, summed_loss
from tunestack_train.processes import Processes

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import TrainerControl, TrainerState, TrainingArguments


class EvaluateAtCheckpoints(TrainerCallback):
    """Asks for an evaluation every `eval_steps`, and before each checkpoint, so that every one can be the best.

    Comes after the Trainer's own callback, which asks for checkpoints.
    """

    def __init__(self, eval_steps: int) -> None:
        self._eval_steps = eval_steps

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        due = self._eval_steps > 0 and state.global_step % self._eval_steps == 0
        if due or control.should_save:
            control.should_evaluate = True


@contextlib.contextmanager
def evaluating(trainer: Trainer) -> Iterator[None]:
    """Training goes on afterwards as if nothing had been: no random number is drawn, the mode is as before."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    training = model.training
    device = trainer.args.device
    model.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        model.train(training)


def held_out_loss(
    trainer: Trainer, held_out: "Dataset", batch_size: int, processes: Processes, give_way: Callable[[], bool]
) -> float | None:
    """Mean loss in nats for each learnt token of `held_out`, over all processes; None when `give_way` became true.

    Logits are not kept: a batch takes no more memory than one of training does.
    """
    args = trainer.args
    # DDP would wait for the others in each forward pass, and their shares may differ by a batch; FSDP has to.
    whole = trainer.is_fsdp_enabled
    model = trainer.model_wrapped if whole else trainer.accelerator.unwrap_model(trainer.model_wrapped)

    def mean_loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad(), trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(model, trainer._prepare_inputs(batch))
        return loss[0] if isinstance(loss, tuple) else loss

    share = (0, 1) if whole else (args.process_index, args.world_size)
    collated = (trainer.data_collator(rows) for rows in batches(held_out, batch_size, share))
    total = summed_loss(takewhile(lambda _: not give_way(), collated), mean_loss)
    if processes.largest(int(give_way())):
        return None
    if not whole and args.world_size > 1:
        total = total.to(args.device)
        torch.distributed.all_reduce(total)
    return float(total[0] / total[1])
