"""The runner: looks at the branch, claims, runs, and pushes what became of it. See docs/experiment-queue.md."""

import contextlib
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tunestack_train.experiments.access import AccessError
from tunestack_train.experiments.board import Board, Item
from tunestack_train.experiments.claims import Claims
from tunestack_train.experiments.devices import Gpu, Slots
from tunestack_train.experiments.execution import Execution
from tunestack_train.experiments.format import FILE
from tunestack_train.experiments.git import CLAIMS, RUNNERS, Git, GitError, NewCommit, Refs, StaleError, Update
from tunestack_train.experiments.held import Held, Runner
from tunestack_train.experiments.plan import Start, View
from tunestack_train.experiments.positions import Json
from tunestack_train.experiments.pushes import Push
from tunestack_train.experiments.report import Report
from tunestack_train.experiments.results import now
from tunestack_train.experiments.settings import Settings

_TRIES: Final = 20
_LONGEST_BACKOFF: Final = 300.0
_TIDY_SECONDS: Final = 6 * 3600.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Tools:
    """What a runner works with. `execute` makes the execution of a claimed experiment; `on_end` hears of each end."""

    git: Git
    slots: Slots
    report: Report
    execute: Callable[[Item, int, str, tuple[Gpu, ...], Callable[[], None]], Execution]
    on_end: Callable[[Held], None]
    say: Say


class Service:
    """Runs until `stopping` is set, or with `--once` until nothing is left to do."""

    def __init__(self, settings: Settings, runner: Runner, tools: Tools, stopping: threading.Event) -> None:
        self._settings = settings
        self._runner = runner
        self._git, self._slots, self._report, self._say = tools.git, tools.slots, tools.report, tools.say
        self._tools = tools
        self._stopping = stopping
        self._wake = threading.Event()
        self._claims = Claims(tools.git, settings.lease, runner.instance)
        self._held: dict[str, Held] = {}
        self._refs: Refs | None = None
        self._last_commit: str | None = None
        self._board: Board | None = None
        self._look_at = 0.0
        self._beat_at = time.monotonic() + settings.heartbeat
        self._tidy_at = time.monotonic() + _TIDY_SECONDS
        self._failures = 0
        self._looked_in_vain = False

    def wake(self) -> None:
        """Something has happened: look at once. Safe from threads and signal handlers."""
        self._wake.set()

    def run(self) -> None:
        """Returns when it has stopped. Raises AccessError when from the start only a person can give access."""
        self._begin()
        while not self._stopping.is_set():
            self._wake.clear()
            self._turn()
            if self._settings.once and self._looked_in_vain and not self._held:
                break
            self._write_status()
            self._wake.wait(self._pause())
        self._end()

    def _begin(self) -> None:
        try:
            self._refs = self._git.observe()
        except AccessError as error:
            if error.lasting or self._settings.once:
                raise
            self._fail(error)
            return
        self._claims.recover(self._refs)

    def _turn(self) -> None:
        try:
            if time.monotonic() >= self._look_at:
                self._look()
            self._attend()
            self._push_what_is_due()
            self._renew()
        except AccessError as error:
            self._fail(error)
        except (GitError, OSError) as error:
            self._fail(AccessError(str(error), "make room, or see what git says", lasting=False), "disk-full")
        else:
            self._failures = 0
            self._solved("access")

    def _fail(self, error: AccessError, code: str = "access") -> None:
        self._failures += 1
        wait = min(_LONGEST_BACKOFF, self._settings.poll * 2 ** min(self._failures - 1, 8))
        self._look_at = time.monotonic() + _jittered(wait)
        if self._report.problem(code, error.message, error.remedy):
            self._say(f"{error.message}. {error.remedy[:1].upper()}{error.remedy[1:]}")

    def _solved(self, code: str) -> None:
        if self._report.solved(code):
            self._say({"access": "the git server answers again"}.get(code, f"solved: {code}"))

    def _pause(self) -> float:
        due = [self._look_at]
        if self._held:
            due.append(self._beat_at)
        left = min(due) - time.monotonic()
        return max(0.0, min(left, self._claims.next_expiry() or left)) + 0.001

    # --- looking ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Asks the server, fetches what has changed, and finds out which of the own claims still are."""
        self._refs = refs = self._git.observe()
        self._report.answered_at = now()
        self._look_at = time.monotonic() + _jittered(self._settings.poll)
        if refs.branch is None:
            self._board = None
            remedy = f"push the branch {self._settings.branch} again; what has ended waits to be pushed"
            self._tell("branch-missing", f"there is no branch {self._settings.branch}", remedy)
        else:
            self._solved("branch-missing")
            if self._board is None or self._board.commit != refs.branch:
                self._fetch()
        running = [item.name for item in self._board.items.values() if item.status == "running"] if self._board else []
        self._claims.note(refs, running)
        for held in list(self._held.values()):
            self._check_claim(held, refs.claims.get(held.item.name))

    def _fetch(self) -> None:
        fetched = self._git.fetch_branch()
        before, commit = self._last_commit, fetched.commit
        if fetched.forced and before is not None:
            remedy = "nothing: running experiments go on, and their results are added to what is there now"
            message = f"the branch was force-pushed: {before[:12]} is no longer part of it"
            self._tell("branch-forced", message, remedy, commit=commit)
        elif before != commit:
            self._report.solved("branch-forced")
        self._last_commit = commit
        self._set_board(Board(commit, self._git.read(commit, FILE)))

    def _set_board(self, board: Board) -> None:
        self._board = board
        if board.missing or board.problems:
            problem = board.problems[0] if board.problems else None
            message = f"{FILE}:{problem.line} {problem.path} {problem.reason}" if problem else f"there is no {FILE}"
            more = len(board.problems) - 1
            self._tell(
                "file",
                message + (f", and {more} more" if more > 0 else ""),
                problem.remedy if problem else f"add {FILE}, a list of experiments",
                path=problem.path if problem else "",
                line=problem.line if problem else 1,
                all=[dict(one.as_dict()) for one in board.problems[:20]],
            )
        else:
            self._solved("file")

    def _tell(self, code: str, message: str, remedy: str, **more: Json) -> None:
        if self._report.problem(code, message, remedy, **more):
            self._say(f"{message}. {remedy[:1].upper()}{remedy[1:]}")

    def _check_claim(self, held: Held, seen: str | None) -> None:
        if seen == held.claim:
            return
        if seen in held.attempted:
            held.claim = seen or held.claim
            return
        if held.change is not None and self._published(held):
            self._forget(held)
            return
        name = held.item.name
        self._say(f"{name}: another runner has taken it over; what ran here is ended and not counted")
        if held.execution is not None:
            held.execution.stop("lost")
        self._forget(held)

    def _published(self, held: Held) -> bool:
        """Whether the end has reached the branch by a push whose answer was lost."""
        item = self._board.items.get(held.item.name) if self._board else None
        return item is not None and item.number == held.number and item.attempt.get("ended_at") is not None

    def _forget(self, held: Held) -> None:
        self._held.pop(held.item.name, None)
        if held.execution is None or held.execution.ending is not None:
            self._slots.give_back(held.gpus)
        else:
            # Its processes have the GPUs until they are gone.
            threading.Thread(target=self._give_back_later, args=(held, held.execution), daemon=True).start()

    def _give_back_later(self, held: Held, execution: Execution) -> None:
        execution.join()
        self._slots.give_back(held.gpus)
        self.wake()

    # --- what has happened here --------------------------------------------------------------------------------------

    def _attend(self) -> None:
        """Ends what was cancelled, and takes note of what has ended."""
        items = self._board.items if self._board else {}
        for held in self._held.values():
            execution, item = held.execution, items.get(held.item.name)
            if execution is None or held.change is not None:
                continue
            if execution.ending is None:
                if item is not None and item.status == "cancelled" and execution.stopped_for is None:
                    self._say(f"{held.item.name}: cancelled")
                    execution.stop("cancelled")
                continue
            failure = held.conclude()
            if failure is not None:
                self._tell("disk-full", f"{execution.output}: {failure.strerror}", "make room in the outputs folder")
            self._say(f"{held.item.name}: {held.outcome()}")
            self._tools.on_end(held)

    # --- pushing -----------------------------------------------------------------------------------------------------

    def _push_what_is_due(self) -> None:
        self._looked_in_vain = False
        for number in range(_TRIES):
            if self._board is None or self._board.entries is None or self._refs is None or self._board.missing:
                self._tell_unpublished()
                self._looked_in_vain = True
                return
            push = self._prepare(self._board, self._refs)
            if not push:
                self._looked_in_vain = True
                return
            try:
                self._do(push, self._board)
            except StaleError:
                push.withdraw(self._slots.give_back)
                # Others have the same in mind: not all at the same moment again.
                time.sleep(random.uniform(0, 0.02 * 2 ** min(number, 5)))  # noqa: S311
                if number % 3 == 2:
                    self._look()
                else:
                    # What stands in the way is mostly the branch, and that alone takes half the time.
                    self._fetch()
                self._attend()
            except BaseException:
                push.withdraw(self._slots.give_back)
                raise
        self._look_at = 0.0

    def _tell_unpublished(self) -> None:
        waiting = [held.item.name for held in self._held.values() if held.change is not None]
        if waiting:
            self._tell("unpublished", f"{', '.join(waiting)} ended and cannot be pushed yet", "mend the branch")

    def _prepare(self, board: Board, refs: Refs) -> Push:
        for held in [one for one in self._held.values() if one.change is not None]:
            item = board.items.get(held.item.name)
            if item is not None and item.number > held.number:
                self._forget(held)
        push = Push()
        push.add_ends(self._held.values())
        view = View(board, refs.claims, self._dead)
        push.add_verdicts(view, self._held)
        if not self._stopping.is_set() and self._has_room():
            push.add_starts(view, self._slots, self._held, self._runner.name, self._settings.outputs)
        return push

    def _dead(self, name: str) -> bool:
        return name not in self._held and self._claims.void(name)

    def _has_room(self) -> bool:
        for folder in (self._settings.outputs, self._settings.state):
            free = shutil.disk_usage(folder).free
            if free < self._settings.least_free_bytes:
                message = f"{folder} has {free >> 20} MiB left; nothing new is started"
                self._tell("disk-full", message, f"make room: {self._settings.least_free_bytes >> 20} MiB are wanted")
                return False
        self._report.solved("disk-full")
        return True

    def _do(self, push: Push, board: Board) -> None:
        """One push for all of it, then what follows from it. Raises StaleError when something else came first."""
        text, commits = push.commits(board, self._runner, self._settings.lease)
        made = self._git.make(commits) if commits else []
        updates, claims = push.updates(self._settings.branch, board, made)
        try:
            self._git.push(updates)
        except AccessError:
            # If only the answer was lost, the claims are there: this runner's, with nothing running.
            self._claims.disown(claims)
            raise
        gone = {update.ref[len(CLAIMS) :] for update in push.removals}
        if self._refs is not None:
            known = {name: claim for name, claim in self._refs.claims.items() if name not in gone} | claims
            self._refs = Refs(self._refs.branch, known, self._refs.runners)
        for held in push.ended:
            self._forget(held)
        self._report.solved("unpublished")
        for name in push.salvaged:
            self._say(f"{name}: the result that its lost runner had left is pushed")
        if len(made) > len(claims):
            self._last_commit = made[0]
            self._set_board(Board(made[0], text))
        for start, gpus in push.starts:
            self._start(start, gpus, claims[start.item.name], board.commit)
        push.starts.clear()

    def _start(self, start: Start, gpus: tuple[Gpu, ...], claim: str, commit: str) -> None:
        item = start.item
        # From the branch as it is now: its end is merged against this.
        running = self._board.items.get(item.name, item) if self._board else item
        held = Held(running, self._runner, commit, start.attempt, gpus, claim, self._settings.lease)
        held.execution = self._tools.execute(item, held.number, commit, gpus, self.wake)
        self._held[item.name] = held
        held.execution.start()
        self._say(f"{item.name}: started (attempt {held.number}, commit {commit[:12]})")

    # --- staying alive -----------------------------------------------------------------------------------------

    def _renew(self) -> None:
        """Heartbeats, and the runner's own report."""
        if self._held and time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + self._settings.heartbeat
            self._beat()
        self._report.running = sorted(self._held)
        self._report.state = "stopping" if self._stopping.is_set() else "running" if self._held else "idle"
        text = self._report.due()
        if text is not None:
            message = f"report of {self._runner.name}"
            [commit] = self._git.make([NewCommit(message, {"runner.json": text.encode()})])
            self._git.replace(f"{RUNNERS}{self._runner.name}", commit)
            self._report.pushed()
        if not self._held and time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + _TIDY_SECONDS
            self._git.tidy()

    def _beat(self) -> None:
        held = list(self._held.values())
        for one in held:
            one.beat += 1
        made = self._git.make(
            [NewCommit(f"claim of {one.item.name} by {self._runner.name}", one.claim_files()) for one in held]
        )
        updates = [Update(f"{CLAIMS}{one.item.name}", one.claim, new) for one, new in zip(held, made, strict=True)]
        for one, new in zip(held, made, strict=True):
            one.attempted.add(new)
        stale = self._git.push_each(updates)
        for one, new in zip(held, made, strict=True):
            if f"{CLAIMS}{one.item.name}" not in stale:
                one.claim = new
                one.attempted.clear()
        if stale:
            self._look()

    def _write_status(self) -> None:
        self._report.running = sorted(self._held)
        self._report.write(git_calls=dict(self._git.calls))

    def _end(self) -> None:
        """Gives back what runs: it is ended with its grace, and is pending for the next runner."""
        for held in self._held.values():
            if held.execution is not None:
                held.execution.stop("returned")
        for held in list(self._held.values()):
            if held.execution is not None:
                held.execution.join()
        for number in range(3):
            self._turn()
            if not self._held or number == 2:
                break
            self._look_at = 0.0
            time.sleep(1)
        text = self._report.last()
        with contextlib.suppress(AccessError, GitError, OSError):
            [commit] = self._git.make(
                [NewCommit(f"last report of {self._runner.name}", {"runner.json": text.encode()})]
            )
            self._git.replace(f"{RUNNERS}{self._runner.name}", commit)
        self._write_status()
        self._say("stopped")


def _jittered(seconds: float) -> float:
    """A tenth more or less, so that runners that were started together do not ask together for ever."""
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311 - nothing depends on its being unpredictable
