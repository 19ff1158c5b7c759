"""The evaluation of a run while it trains: when it is done, and the loss on what was held out.

Importing this imports torch and transformers, which takes seconds: import it where it is used.
"""

import contextlib
from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat, takewhile
from math import ceil
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainerCallback

from tunestack_train.data.tokens import IGNORED
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
    trainer: Trainer,
    held_out: "Dataset",
    batch_size: int,
    processes: Processes,
    give_way: Callable[[], bool],
    *,
    in_step: bool,
) -> float | None:
    """Mean loss in nats for each learnt token of `held_out`, over all processes; None when `give_way` became true.

    Logits are not kept: a batch takes no more memory than one of training does. `in_step`: a forward pass takes all
    processes, so that they must do equally many.
    """
    args = trainer.args
    # DDP would wait for the others in each forward pass.
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)

    def mean_loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.no_grad(), trainer.compute_loss_context_manager():
            loss = trainer.compute_loss(model, trainer._prepare_inputs(batch))
        return loss[0] if isinstance(loss, tuple) else loss

    collated: Iterator[dict[str, torch.Tensor]] = (
        trainer.data_collator(rows) for rows in batches(held_out, batch_size, (args.process_index, args.world_size))
    )
    if in_step:
        count = ceil(ceil(len(held_out) / args.world_size) / batch_size)
        collated = islice(chain(collated, _uncounted(trainer, held_out)), count)

    def all_give_way() -> bool:
        return bool(processes.largest(int(give_way())))

    ends = all_give_way if in_step else give_way
    total = summed_loss(takewhile(lambda _: not ends(), collated), mean_loss)
    if all_give_way():
        return None
    if args.world_size > 1:
        total = total.to(args.device)
        torch.distributed.all_reduce(total)
    return float(total[0] / total[1])


def _uncounted(trainer: Trainer, held_out: "Dataset") -> Iterator[dict[str, torch.Tensor]]:
    """Batches of which nothing is counted, for a process that has one fewer than the others."""
    batch = trainer.data_collator([held_out[0]])
    batch["labels"] = torch.full_like(batch["labels"], IGNORED)
    return repeat(batch)
