"""The sign of life of a runner: each of its claims, replaced by a new commit."""

from collections.abc import Sequence

from tunestack_train.experiments.git import CLAIMS, Git, NewCommit, Update
from tunestack_train.experiments.held import Held


def beat(git: Git, held: Sequence[Held], runner: str) -> bool:
    """Renews the claims. Whether one was refused, since it is no longer as this runner has left it."""
    for one in held:
        one.beat += 1
    made = git.make([NewCommit(f"claim of {one.item.name} by {runner}", one.claim_files()) for one in held])
    updates = [Update(f"{CLAIMS}{one.item.name}", one.claim, new) for one, new in zip(held, made, strict=True)]
    for one, new in zip(held, made, strict=True):
        one.attempted.add(new)
    stale = git.push_each(updates)
    for one, new in zip(held, made, strict=True):
        if f"{CLAIMS}{one.item.name}" not in stale:
            one.claim = new
            one.attempted.clear()
    return bool(stale)
