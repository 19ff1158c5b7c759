"""What a runner that is started again does with work that went on without it."""

from collections.abc import Callable
from datetime import datetime

from tunestack_train.experiments.board import Board
from tunestack_train.experiments.claims import Claims
from tunestack_train.experiments.format import ENDS
from tunestack_train.experiments.held import Held, Runner
from tunestack_train.experiments.settings import Settings
from tunestack_train.experiments.work import Executor


def take_up(
    executor: Executor, board: Board, claims: Claims, runner: Runner, settings: Settings, wake: Callable[[], None]
) -> list[Held]:
    """Goes on with what is this runner's still, and ends what is nobody's any more: another attempt is at work, or it
    has ended, or is no longer there. An attempt whose claim another state folder wrote is left as it is: with its lease
    it becomes a start, which finds the work.
    """
    taken: list[Held] = []
    for left in executor.left():
        item = board.items.get(left.name)
        ended = item is None or (item.status in ENDS and item.attempt.get("ended_at") is not None)
        if item is None or ended or item.number != left.number:
            left.discard()
            continue
        claim = claims.own(left.name)
        if claim is None:
            continue
        claims.take_up(left.name)
        gpus = executor.room.take(item.gpus)
        held = Held(item, runner, dict(item.attempt), gpus, claim, settings.lease)
        held.began = _seconds(item.attempt.get("started_at"), held.began)
        held.execution = left.take_up(item, wake)
        held.execution.start()
        taken.append(held)
    return taken


def _seconds(time: object, otherwise: float) -> float:
    try:
        return datetime.fromisoformat(str(time)).timestamp()
    except ValueError:
        return otherwise
