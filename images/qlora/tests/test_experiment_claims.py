"""Claims of other runners, against a real bare repository."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_site import BRANCH, Site, git
from tunestack_train.experiments.access import Access
from tunestack_train.experiments.claims import Claims
from tunestack_train.experiments.git import CLAIMS, Git, NewCommit, Update
from tunestack_train.experiments.redaction import Redactor


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path).make()
    yield made
    made.end()


def git_of(site: Site, name: str) -> Git:
    made = Git(site.folder / name, Access(str(site.server), site.folder / f"{name}-private"), BRANCH, Redactor([]))
    made.prepare()
    return made


def claim(holder: Git, name: str, content: str) -> None:
    [commit] = holder.make([NewCommit("claim", {"claim.json": content.encode()})])
    holder.push([Update(f"{CLAIMS}{name}", None, commit)])


def test_a_claim_that_goes_while_it_is_looked_at_is_no_failure(site: Site) -> None:
    claim(git_of(site, "holder"), "work", '{"instance": "other", "lease_seconds": 0}')
    watcher = git_of(site, "watcher")
    claims = Claims(watcher, 0.0, "own")
    claims.note(watcher.observe(), ["work"])
    git(site.server, "update-ref", "-d", f"{CLAIMS}work")
    assert not claims.void("work"), "the next look tells what became of it"
    claims.note(watcher.observe(), ["work"])
    assert claims.void("work"), "it runs without a claim, and the lease of none is over"


def test_own_claims_are_found_among_many_by_one_fetch(site: Site) -> None:
    holder = git_of(site, "holder")
    for number in range(5):
        instance = "own" if number == 3 else "other"
        claim(holder, f"e{number}", f'{{"instance": "{instance}", "lease_seconds": 600}}')
    again = git_of(site, "again")
    claims = Claims(again, 600.0, "own")
    refs = again.observe()
    claims.recover(refs)
    assert again.calls["fetch"] == 1
    claims.note(refs, [])
    assert [name for name in refs.claims if claims.void(name)] == ["e3"]
