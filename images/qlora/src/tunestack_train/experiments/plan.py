"""What this runner does next with what the branch shows: pure, so that it can be tried out without a server."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from tunestack_train.experiments.board import Attempt, Board, Change, Item
from tunestack_train.experiments.held import MOST_LOST
from tunestack_train.experiments.results import now
from tunestack_train.experiments.work import Room


@dataclass(frozen=True)
class Start:
    """An experiment to claim. `old` is the claim on the server that is replaced, None where there must be none."""

    item: Item
    attempt: Attempt
    old: str | None


@dataclass(frozen=True)
class View:
    """The server as last seen. `dead` tells of the experiments whose claim (or lack of one) has expired."""

    board: Board
    claims: Mapping[str, str]
    dead: Callable[[str], bool]


def starts(view: View, slots: Room, held: Collection[str], runner: str) -> Iterator[Start]:
    """What to claim, in the order of the file, as long as there is room.

    An experiment that waits for more GPUs than are free keeps those behind it from taking them first.
    """
    waiting = False
    for item in view.board.items.values():
        if item.name in held or not slots.could_take(item.gpus) or not _free(view, item):
            continue
        if item.status == "running" and item.count("lost") >= MOST_LOST:
            continue
        if not slots.takes(item.gpus) or (waiting and item.gpus > 0):
            waiting = waiting or item.gpus > 0
            continue
        yield Start(item, _next_attempt(item, view.board.commit, runner), view.claims.get(item.name))


def verdicts(view: View) -> dict[str, Change]:
    """Experiments that end without being started: what they need has failed, or their runners were lost too often."""
    changes: dict[str, Change] = {}
    for item in view.board.items.values():
        if item.status == "pending" and item.name not in view.claims:
            need = view.board.hopeless(item)
            if need is not None:
                message = f"not started: it needs {need.name}, which is {need.status}"
                kept = {key: value for key, value in item.attempt.items() if key in {"number", "failures", "lost"}}
                changes[item.name] = Change("error", kept | {"message": message}, item.entry)
        elif item.status == "running" and item.count("lost") >= MOST_LOST and view.dead(item.name):
            message = (
                f"its runner was lost {item.count('lost') + 1} times, the last time on {item.attempt.get('runner')}"
            )
            attempt = dict(item.attempt) | {"lost": item.count("lost") + 1, "ended_at": now(), "message": message}
            changes[item.name] = Change("error", attempt, item.entry)
    return changes


def abandoned(view: View, held: Collection[str]) -> list[str]:
    """Claims that nobody renews, of experiments that are not there or have ended."""
    return [
        name
        for name in view.claims
        if name not in held
        and view.dead(name)
        and (name not in view.board.items or view.board.items[name].status not in {"pending", "running"})
    ]


def _free(view: View, item: Item) -> bool:
    if item.status == "pending":
        return (item.name not in view.claims or view.dead(item.name)) and view.board.ready(item)
    return item.status == "running" and view.dead(item.name)


def _next_attempt(item: Item, commit: str, runner: str) -> Attempt:
    attempt: Attempt = {"number": item.number + 1, "runner": runner, "started_at": now(), "commit": commit}
    # What a person asks for again begins anew.
    if 0 < item.count("failures") <= item.retries:
        attempt["failures"] = item.count("failures")
    if item.status == "running":
        attempt["lost"] = item.count("lost") + 1
    return attempt
