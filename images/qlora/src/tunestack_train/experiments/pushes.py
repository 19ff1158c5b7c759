"""One push: everything that this runner has to say at a time, as changes of the file, files, and updates of refs."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tunestack_train.experiments import plan
from tunestack_train.experiments.board import Board, Change
from tunestack_train.experiments.devices import Gpu
from tunestack_train.experiments.format import ENDS, FILE, write
from tunestack_train.experiments.git import CLAIMS, NewCommit, Update
from tunestack_train.experiments.held import Held, Runner, claim_files
from tunestack_train.experiments.plan import Start, View
from tunestack_train.experiments.results import LOG, LOG_BYTES_IN_GIT, files_for_git, read_results
from tunestack_train.experiments.work import Room


@dataclass
class Push:
    """`changes` to `board` and `files` beside it, claims to make for `starts` (with their GPUs), refs to remove."""

    board: Board
    changes: dict[str, Change] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    ended: list[Held] = field(default_factory=list)
    starts: list[tuple[Start, tuple[Gpu, ...]]] = field(default_factory=list)
    removals: list[Update] = field(default_factory=list)
    salvaged: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.changes or self.starts or self.removals)

    def add_ends(self, ended: Collection[Held]) -> None:
        """What has ended here, with its claim to remove."""
        for held in ended:
            if held.change is not None:
                self.changes[held.item.name] = held.change
                self.files |= held.files
                self.ended.append(held)
                self.removals.append(_removal(held.item.name, held.claim))

    def add_verdicts(self, view: View, held: Collection[str]) -> None:
        """What ends without a start, and claims of which nothing will come any more."""
        verdicts = {name: change for name, change in plan.verdicts(view).items() if name not in held}
        self.changes |= verdicts
        void = [name for name in verdicts if name in view.claims and view.dead(name)]
        for name in dict.fromkeys([*plan.abandoned(view, held), *void]):
            self.removals.append(_removal(name, view.claims[name]))

    def add_starts(self, view: View, slots: Room, held: Collection[str], runner: str, outputs: Path) -> None:
        """What there is room for. What a lost runner has finished and could not push is pushed in place of it."""
        for start in plan.starts(view, slots, held, runner):
            if not self._salvage(start, outputs / start.item.name):
                self.starts.append((start, slots.take(start.item.gpus)))

    def _salvage(self, start: Start, output: Path) -> bool:
        item = start.item
        results = read_results(output) if item.status == "running" else None
        if results is None or results.get("status") not in ENDS or results.get("attempt") != item.number:
            return False
        if results.get("started_at") != item.attempt.get("started_at"):
            return False
        ended = {key: results[key] for key in ("ended_at", "exit_code", "message") if results.get(key) is not None}
        self.changes[item.name] = Change(str(results["status"]), dict(item.attempt) | ended, item.entry)
        self.files |= files_for_git(item.name, results, _end_of(output / LOG), output)
        if start.old is not None:
            self.removals.append(_removal(item.name, start.old))
        self.salvaged.append(item.name)
        return True

    def running_after(self, held: Collection[str]) -> list[str]:
        """What the runner has once this is made, of what it has now."""
        return sorted(({*held} - {one.item.name for one in self.ended}) | {one.item.name for one, _ in self.starts})

    def commits(self, runner: Runner, lease: float) -> tuple[str, list[NewCommit]]:
        """The file's new text, and the commits to make: the branch's if anything changes there, then the claims'."""
        started = {one.item.name: Change("running", one.attempt, one.item.entry) for one, _ in self.starts}
        changes = self.changes | started
        text = write(self.board.changed(changes))
        commits: list[NewCommit] = []
        if changes:
            commits.append(NewCommit(_message(changes), {FILE: text.encode()} | self.files, self.board.commit))
        for start, gpus in self.starts:
            files = claim_files(start.item.name, runner, start.attempt, 0, lease, gpus)
            commits.append(NewCommit(f"claim of {start.item.name} by {runner.name}", files))
        return text, commits

    def updates(self, branch: str, made: list[str]) -> tuple[list[Update], dict[str, str]]:
        """The updates for the commits that were made, and the new claims by name."""
        claims = made[len(made) - len(self.starts) :]
        updates = list(self.removals)
        if len(made) > len(claims):
            updates.append(Update(f"refs/heads/{branch}", self.board.commit, made[0]))
        named = {start.item.name: claim for (start, _), claim in zip(self.starts, claims, strict=True)}
        updates += [Update(f"{CLAIMS}{start.item.name}", start.old, named[start.item.name]) for start, _ in self.starts]
        return updates, named

    def withdraw(self, give_back: Callable[[tuple[Gpu, ...]], None]) -> None:
        """It was not made: what the starts were given is free again."""
        for _, gpus in self.starts:
            give_back(gpus)
        self.starts.clear()


def _removal(name: str, claim: str) -> Update:
    return Update(f"{CLAIMS}{name}", claim, None)


def _end_of(log: Path) -> bytes:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - LOG_BYTES_IN_GIT))
            return stream.read()
    except OSError:
        return b""


def _message(changes: Mapping[str, Change]) -> str:
    parts = [f"{name} {change.status}" for name, change in changes.items()]
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    return f"Experiments: {', '.join(parts[:3])}{more}"
