"""What stands between a trainer and the world: who asks it to stop, and who is told what it does.

Importing this imports transformers, which takes seconds: import it where it is used.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from transformers import TrainerCallback

from tunestack_train.device import Device, memory_in_use
from tunestack_train.evaluation import EVAL_LOSS
from tunestack_train.log_threads import AllLogs
from tunestack_train.status import Status, StatusFile
from tunestack_train.stop import StopSignal

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from tunestack_train.trainer import RunTrainer

_SECONDS_FOR_LOGS: Final = 1.0
_GO_ON: Final = 0
_STOP: Final = 1
_FAILED: Final = 2


class Watcher(TrainerCallback):
    """Between the Trainer and the world: asks it to stop when that was requested, and tells what it does.

    In all processes but the first it only has a part in the decision to stop.
    """

    def __init__(
        self,
        trainer: "RunTrainer",
        device: Device,
        stop: StopSignal,
        status: StatusFile,
        logs: AllLogs,
        show: Callable[[Status], None],
    ) -> None:
        self._trainer = trainer
        self._device = device
        self._stop = stop
        self._status = status
        self._logs = logs
        self._show = show
        self._pace = Pace()
        self._first_step = 0

    def on_train_begin(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        self._first_step = state.global_step
        # The state of a checkpoint says how often the run saved and logged before; what is set now counts.
        state.compute_steps(args, state.max_steps)
        self._pace.start(state.global_step)
        self._status.update(state="training", step=state.global_step, max_steps=state.max_steps)

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        self._end_if_wished(state, control)
        self._status.update(step=state.global_step)

    def on_substep_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        # A step of a large model takes longer than a machine that is taken away leaves.
        self._end_if_wished(state, control)

    def _end_if_wished(self, state: "TrainerState", control: "TrainerControl") -> None:
        own = _FAILED if self._trainer.saving.writer.failed else _STOP if self._stop.requested else _GO_ON
        # All processes have to do the same after the same step, whoever was asked and whoever failed.
        wish = self._trainer.saving.processes.largest(own)
        if wish != _GO_ON:
            control.should_training_stop = True
            # It may take longer than there is time; the next start does it first.
            self._trainer.evaluation_postponed = control.should_evaluate
            control.should_evaluate = False
            # Without a step in this process there is nothing that the checkpoint before it lacks.
            control.should_save = wish == _STOP and state.global_step > self._first_step
            self._status.update(state="saving")

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
        # A run that goes on from this checkpoint finds the lines of all steps before it.
        self._logs.flush(_SECONDS_FOR_LOGS)


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
