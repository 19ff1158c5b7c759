"""The runner: looks at the branch, claims, runs, and pushes what became of it. See docs/experiment-queue.md."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tunestack_train.experiments.access import AccessError
from tunestack_train.experiments.board import Board
from tunestack_train.experiments.claims import Claims
from tunestack_train.experiments.cluster.api import ClusterError
from tunestack_train.experiments.devices import Gpu
from tunestack_train.experiments.format import FILE
from tunestack_train.experiments.git import Git, GitError, Refs, StaleError
from tunestack_train.experiments.heartbeat import beat
from tunestack_train.experiments.held import Held, Runner
from tunestack_train.experiments.plan import Start, View
from tunestack_train.experiments.positions import Json
from tunestack_train.experiments.pushes import Push
from tunestack_train.experiments.report import SOLVED, Report
from tunestack_train.experiments.results import now
from tunestack_train.experiments.room import lack_of_room
from tunestack_train.experiments.settings import Settings
from tunestack_train.experiments.take_up import take_up
from tunestack_train.experiments.turns import Turns, jittered
from tunestack_train.experiments.work import Executor, Work

_LAST_TRIES: Final = 3
_LONGEST_BACKOFF: Final = 300.0
_TIDY_SECONDS: Final = 6 * 3600.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Tools:
    """What a runner works with. `on_end` hears of each end."""

    git: Git
    executor: Executor
    report: Report
    on_end: Callable[[Held], None]
    say: Say


class Service:
    """Runs until `stopping` is set, or with `--once` until nothing is left to do."""

    def __init__(self, settings: Settings, runner: Runner, tools: Tools, stopping: threading.Event) -> None:
        self._settings = settings
        self._runner = runner
        self._git, self._report, self._say = tools.git, tools.report, tools.say
        self._executor, self._slots = tools.executor, tools.executor.room
        self._tools = tools
        self._stopping = stopping
        self._wake = threading.Event()
        self._claims = Claims(tools.git, settings.lease, runner.instance)
        self._turns = Turns()
        self._refused: str | None = None
        self._fresh = False
        self._held: dict[str, Held] = {}
        self._refs: Refs | None = None
        self._last_commit: str | None = None
        self._board: Board | None = None
        self._look_at = 0.0
        self._beat_at = time.monotonic() + settings.heartbeat
        self._tidy_at = time.monotonic() + _TIDY_SECONDS
        self._failures = 0
        self._looked_in_vain = False
        self._taken_up = False

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
        self._fresh = False
        try:
            if time.monotonic() >= self._look_at:
                self._look()
            self._attend()
            self._push_what_is_due()
            self._renew()
        except AccessError as error:
            if error.lasting and self._settings.once and not self._held:
                raise
            self._fail(error)
        except (GitError, OSError) as error:
            self._fail(AccessError(str(error), "make room, or see what git says", lasting=False), "disk-full")
        else:
            self._failures = 0
            self._solved("access")

    def _fail(self, error: AccessError, code: str = "access") -> None:
        self._failures += 1
        wait = min(_LONGEST_BACKOFF, self._settings.poll * 2 ** min(self._failures - 1, 8))
        self._look_at = time.monotonic() + jittered(wait)
        self._tell(code, error.message, error.remedy)

    def _solved(self, code: str) -> None:
        if self._report.solved(code):
            self._say(SOLVED[code])

    def _pause(self) -> float:
        due = [self._look_at]
        if not self._looked_in_vain:
            due.append(self._turns.at)
        if self._held:
            due.append(self._beat_at)
        left = min(due) - time.monotonic()
        return max(0.0, min(left, self._claims.next_expiry() or left)) + 0.001

    # --- looking ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Asks the server, fetches what has changed, and finds out which of the own claims still are."""
        self._refs = refs = self._git.observe()
        self._fresh = True
        self._report.answered_at = now()
        self._look_at = time.monotonic() + jittered(self._settings.poll)
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
        if not self._taken_up and self._board is not None and self._board.entries is not None:
            self._take_up(self._board)
        for held in list(self._held.values()):
            self._check_claim(held, refs.claims.get(held.item.name))

    def _take_up(self, board: Board) -> None:
        """Until it is known what went on without this runner, it starts nothing."""
        try:
            taken = take_up(self._executor, board, self._claims, self._runner, self._settings, self.wake)
        except ClusterError as error:
            self._tell("cluster", error.message, error.remedy)
            return
        for held in taken:
            self._held[held.item.name] = held
            self._say(f"{held.item.name}: taken up again (attempt {held.number})")
        self._taken_up = True
        self._solved("cluster")

    def _fetch(self) -> None:
        fetched = self._git.fetch_branch()
        before, commit = self._last_commit, fetched.commit
        if fetched.forced and before is not None:
            remedy = "nothing has to be done: what runs goes on, and its results are added to what is there now"
            message = f"the branch was force-pushed: {before[:12]} is no longer part of it"
            self._tell("branch-forced", message, remedy, commit=commit)
        elif before != commit:
            self._report.solved("branch-forced")
        self._last_commit = commit
        self._set_board(Board(commit, self._git.read(commit, FILE)))

    def _set_board(self, board: Board) -> None:
        self._board = board
        trouble = board.trouble()
        if trouble is None:
            self._solved("file")
        else:
            self._tell("file", trouble.message, trouble.remedy, **trouble.where)

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
        if held.change is not None:
            return
        if held.execution is None or held.execution.ending is not None:
            self._slots.give_back(held.gpus)
        else:
            # Its processes have the GPUs until they are gone.
            threading.Thread(target=self._give_back_later, args=(held, held.execution), daemon=True).start()

    def _give_back_later(self, held: Held, execution: Work) -> None:
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
                    self._say(f"{held.item.name}: is being ended, since it was cancelled")
                    # Its end is a change of what that person wrote.
                    held.item = item
                    execution.stop("cancelled")
                continue
            failure = held.conclude()
            # At once: the next start then goes with this end, in one push.
            self._slots.give_back(held.gpus)
            if failure is not None:
                self._tell("disk-full", f"{execution.output}: {failure.strerror}", "make room in the outputs folder")
            self._say(f"{held.item.name}: {held.outcome()}")
            self._tools.on_end(held)

    # --- pushing -----------------------------------------------------------------------------------------------------

    def _push_what_is_due(self) -> None:
        """One try at most: the next one is for the next turn."""
        self._looked_in_vain = False
        if time.monotonic() < self._turns.at:
            return
        began = time.monotonic()
        push = self._prepare()
        if push is not None and self._turns.contended and not self._fresh:
            # Made for a branch that others have moved by now, it would be made in vain.
            push.withdraw(self._slots.give_back)
            self._catch_up()
            push = self._prepare()
        if push is None:
            self._looked_in_vain = True
            return
        try:
            self._do(push)
        except StaleError:
            push.withdraw(self._slots.give_back)
            self._refused = push.board.commit
            self._turns.lost(time.monotonic() - began)
        except BaseException:
            push.withdraw(self._slots.give_back)
            raise
        else:
            self._turns.won(time.monotonic() - began)

    def _catch_up(self) -> None:
        """Fetches the branch, which mostly is what was in the way, and looks at the rest only where it was not."""
        self._fetch()
        if self._board is not None and self._board.commit == self._refused:
            self._look()
        self._refused = None
        self._attend()

    def _tell_unpublished(self) -> None:
        waiting = [held.item.name for held in self._held.values() if held.change is not None]
        if waiting:
            self._tell("unpublished", f"{', '.join(waiting)} ended and cannot be pushed yet", "mend the branch")

    def _prepare(self) -> Push | None:
        """All that this runner has to say now. None where that is nothing, or there is no file to say it in."""
        board, refs = self._board, self._refs
        if board is None or board.entries is None or refs is None or board.missing:
            self._tell_unpublished()
            return None
        push = Push(board)
        for held in [one for one in self._held.values() if one.change is not None]:
            item = board.items.get(held.item.name)
            if item is not None and item.number > held.number:
                self._forget(held)
        push.add_ends(self._held.values())
        if not self._taken_up:
            return push if push else None
        view = View(board, refs.claims, self._dead)
        push.add_verdicts(view, self._held)
        if not self._stopping.is_set() and self._has_room():
            push.add_starts(view, self._slots, self._held, self._runner.name, self._settings.outputs)
        return push if push else None

    def _dead(self, name: str) -> bool:
        return name not in self._held and self._claims.void(name)

    def _has_room(self) -> bool:
        lack = lack_of_room((self._settings.outputs, self._settings.state), self._settings.least_free_bytes)
        if lack is None:
            self._report.solved("disk-full")
        else:
            self._tell("disk-full", *lack)
        return lack is None

    def _do(self, push: Push) -> None:
        """One push for all of it, then what follows from it. Raises StaleError when something else came first."""
        text, commits = push.commits(self._runner, self._settings.lease)
        self._report.describe(push.running_after(self._held), stopping=self._stopping.is_set())
        news = self._report.news()
        reports = [] if news is None else [self._report.commit(news)]
        made = self._git.make([*commits, *reports]) if commits or reports else []
        updates, claims = push.updates(self._settings.branch, made[: len(commits)])
        updates += [self._report.update(commit) for commit in made[len(commits) :]]
        try:
            self._git.push(updates)
        except AccessError:
            # If only the answer was lost, the claims are there: this runner's, with nothing running.
            self._claims.disown(claims)
            raise
        if reports:
            self._report.pushed()
        if self._refs is not None:
            self._refs = self._refs.after(updates)
        for held in push.ended:
            self._forget(held)
        self._report.solved("unpublished")
        for name in push.salvaged:
            self._say(f"{name}: the result that its lost runner had left is pushed")
        if len(commits) > len(claims):
            self._last_commit = made[0]
            self._set_board(Board(made[0], text))
        for start, gpus in push.starts:
            self._start(start, gpus, claims[start.item.name], push.board.commit)
        push.starts.clear()

    def _start(self, start: Start, gpus: tuple[Gpu, ...], claim: str, commit: str) -> None:
        item = start.item
        # From the branch as it is now: its end is merged against this.
        running = self._board.items.get(item.name, item) if self._board else item
        held = Held(running, self._runner, start.attempt, gpus, claim, self._settings.lease)
        held.execution = self._executor.execute(item, held.number, commit, gpus, self.wake)
        self._held[item.name] = held
        held.execution.start()
        self._say(f"{item.name}: started (attempt {held.number}, commit {commit[:12]})")

    # --- staying alive -----------------------------------------------------------------------------------------

    def _renew(self) -> None:
        """Heartbeats, and the runner's own report where no other push has taken it along."""
        if self._held and time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + self._settings.heartbeat
            if beat(self._git, list(self._held.values()), self._runner.name):
                # Some are no longer this runner's: it finds out which.
                self._look()
        self._report.describe(self._held, stopping=self._stopping.is_set())
        self._push_report(self._report.due())
        if not self._held and time.monotonic() >= self._tidy_at:
            self._tidy_at = time.monotonic() + _TIDY_SECONDS
            self._git.tidy()

    def _push_report(self, text: str | None) -> None:
        if text is not None:
            [commit] = self._git.make([self._report.commit(text)])
            if not self._git.push_each([self._report.update(commit)]):
                self._report.pushed()

    def _write_status(self) -> None:
        self._report.running = sorted(self._held)
        self._report.write(git_calls=dict(self._git.calls))

    def _end(self) -> None:
        """Gives back what runs: it is ended with its grace, and is pending for the next runner. What outlives this one
        goes on: the next one, in the same folder, takes it up.
        """
        if self._executor.outlives:
            self._turn()
        else:
            self._give_back_all()
        with contextlib.suppress(AccessError, GitError, OSError):
            self._push_report(self._report.last())
        self._write_status()
        self._say("stopped")

    def _give_back_all(self) -> None:
        for held in self._held.values():
            if held.execution is not None:
                held.execution.stop("returned")
        for held in list(self._held.values()):
            if held.execution is not None:
                held.execution.join()
        vain = 0
        while self._held and vain < _LAST_TRIES:
            self._turn()
            wait = self._turns.at - time.monotonic()
            if self._failures or self._looked_in_vain:
                vain, wait, self._look_at = vain + 1, 1.0, 0.0
            if self._held:
                time.sleep(max(0.0, wait))
