"""Git by its plumbing, in the runner's own repository: what it does locally, and what it asks the server."""

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tunestack_train.experiments.access import Access, AccessError, explain, no_terminal
from tunestack_train.experiments.format import RESULTS_FOLDER
from tunestack_train.experiments.redaction import Redactor

CLAIMS: Final = "refs/tunestack/claims/"
RUNNERS: Final = "refs/tunestack/runners/"
_SEEN: Final = "refs/tunestack/seen"
_MADE: Final = "refs/tunestack/made"
_AUTHOR: Final = "tunestack experiment-runner <experiment-runner@tunestack.invalid>"
_FETCH_OPTIONS: Final = ("--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules")
_LOCAL_SECONDS: Final = 300.0
_NETWORK_SECONDS: Final = 600.0
# Nobody else may take part: no hooks, no background repacking, no store for passwords.
_CONFIGURATION: Final = {
    "core.hooksPath": "/dev/null",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "credential.helper": "",
    "core.logAllRefUpdates": "false",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
    "protocol.version": "2",
    "advice.detachedHead": "false",
    # Results of a thousand experiments are no part of the code that one of them runs.
    "core.sparseCheckout": "true",
    "core.sparseCheckoutCone": "false",
}
_STALE: Final = re.compile(
    r"stale info|fetch first|non-fast-forward|cannot lock ref|failed to (?:update|lock)|already exists"
    r"|incorrect old value|reference changed|remote ref (?:updated|changed)|needs force"
)


@dataclass(frozen=True)
class NewCommit:
    """A commit to make: its files are added to those of `parent`, or are all that it has."""

    message: str
    files: Mapping[str, bytes]
    parent: str | None = None


@dataclass(frozen=True)
class Update:
    """A ref on the server that changes from `old` (None: it is not there) to `new` (None: it is removed).

    `anyway`: whatever it was before, as nobody else writes it.
    """

    ref: str
    old: str | None
    new: str | None
    anyway: bool = False


@dataclass(frozen=True)
class Refs:
    """The refs of the server that matter here: commit of the branch (None: there is none), of claims, of runners."""

    branch: str | None
    claims: Mapping[str, str]
    runners: Mapping[str, str]

    def after(self, updates: "Sequence[Update]") -> "Refs":
        """As they are once these are made, as far as claims go."""
        changed = {update.ref[len(CLAIMS) :]: update.new for update in updates if update.ref.startswith(CLAIMS)}
        claims = {name: claim for name, claim in self.claims.items() if name not in changed}
        return replace(self, claims=claims | {name: claim for name, claim in changed.items() if claim is not None})


@dataclass(frozen=True)
class Fetched:
    """`forced`: what was fetched before is no longer part of it."""

    commit: str
    forced: bool


class StaleError(Exception):
    """The server has another value than the push was made for: nothing of it was done."""


class GitError(Exception):
    """Git failed here, on this machine."""


class Git:
    """The repository in `folder`, and the server that it talks to."""

    def __init__(self, folder: Path, access: Access, branch: str, redactor: Redactor) -> None:
        self._folder = folder
        self._access = access
        self._branch = f"refs/heads/{branch}"
        self._redactor = redactor
        self._atomic = True
        self._objects = _Objects(folder)
        self.calls: Counter[str] = Counter()

    def prepare(self) -> None:
        """Makes the repository if it is not there, and mends what a crash left in it."""
        if not (self._folder / "HEAD").is_file():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._local("init", "--quiet", "--bare", ".")
        for lock in [*self._folder.glob("*.lock"), *self._folder.glob("refs/tunestack/**/*.lock")]:
            lock.unlink(missing_ok=True)
        listed = self._local("config", "--null", "--list", "--local").decode().split("\0")
        known = dict(line.partition("\n")[::2] for line in listed)
        for key, value in _CONFIGURATION.items():
            # Git lists names in lower case.
            if known.get(key.lower()) != value:
                self._local("config", "--replace-all", key, value)
        # A worktree takes this over as its own when it is made.
        patterns = self._folder / "info" / "sparse-checkout"
        patterns.parent.mkdir(exist_ok=True)
        patterns.write_text(f"/*\n!/{RESULTS_FOLDER}/\n")
        self._local("worktree", "prune")

    def observe(self) -> Refs:
        """What the server has. One request, without objects. Raises AccessError."""
        out = self._remote("ls-remote", self._access.url, self._branch, f"{CLAIMS}*", f"{RUNNERS}*")[0].decode()
        refs = {ref: oid for oid, _, ref in (line.partition("\t") for line in out.splitlines())}
        return Refs(
            refs.get(self._branch),
            {ref[len(CLAIMS) :]: oid for ref, oid in refs.items() if ref.startswith(CLAIMS)},
            {ref[len(RUNNERS) :]: oid for ref, oid in refs.items() if ref.startswith(RUNNERS)},
        )

    def fetch_branch(self) -> "Fetched":
        """Fetches the branch, which may be newer than what was observed."""
        return self._fetch(self._branch, f"{_SEEN}/branch")

    def fetch_claim(self, name: str) -> str:
        """Fetches a claim and returns its commit."""
        return self._fetch(f"{CLAIMS}{name}", f"{_SEEN}/claims/{name}").commit

    def fetch_claims(self) -> None:
        """Fetches all claims, in one request, so that they can be read by their commits."""
        self._remote("fetch", *_FETCH_OPTIONS, self._access.url, f"+{CLAIMS}*:{_SEEN}/claims/*")

    def _fetch(self, ref: str, to: str) -> "Fetched":
        said = self._remote("fetch", *_FETCH_OPTIONS, self._access.url, f"+{ref}:{to}")[1]
        commit = self._objects.read(to)
        if commit is None:
            raise GitError(f"git fetch: {ref} was fetched and is not there")
        return Fetched(commit[0], forced="(forced update)" in said)

    def read(self, commit: str, path: str) -> str | None:
        """A file of a commit that was fetched or made here; None where it has none, or none that is text."""
        found = self._objects.read(f"{commit}:{path}")
        try:
            return None if found is None else found[1].decode("utf-8")
        except UnicodeDecodeError:
            return None

    def make(self, commits: Sequence[NewCommit]) -> list[str]:
        """Makes commits, all in one process, and returns their ids. Raises GitError, for a full disk too."""
        stream = bytearray()
        for number, commit in enumerate(commits, 1):
            stream += f"commit {_MADE}/{number}\nmark :{number}\n".encode()
            stream += f"committer {_AUTHOR} {int(time.time())} +0000\n".encode()
            stream += _data(commit.message.encode())
            if commit.parent is not None:
                stream += f"from {commit.parent}\n".encode()
            for path, content in commit.files.items():
                stream += f"M 100644 inline {path}\n".encode() + _data(content)
            stream += b"\n"
        stream += b"".join(f"get-mark :{number}\n".encode() for number in range(1, len(commits) + 1))
        out = self._local("fast-import", "--quiet", "--force", "--date-format=raw", stdin=bytes(stream))
        return out.decode().split()

    def push(self, updates: Sequence[Update]) -> None:
        """Makes all of the changes or none. Raises StaleError if one of the refs is not as said, or AccessError.

        A server without atomic pushes gets new claims first, then the branch, and removals last; see Claims in
        docs/experiment-queue.md for why that is enough.
        """
        if self._atomic:
            try:
                self._push(updates, "--atomic")
            except _NoAtomicPushError:
                self._atomic = False
            else:
                return
        branch = [one for one in updates if one.ref == self._branch]
        claims = [one for one in updates if one.ref != self._branch and one.new is not None]
        removals = [one for one in updates if one.new is None]
        for part in (claims, branch, removals):
            if part:
                self._push(part)

    def push_each(self, updates: Sequence[Update]) -> set[str]:
        """Makes each change that still applies, in one request. Returns the refs that were not as said."""
        return self._push(updates, each=True)

    def try_to_write(self, name: str) -> None:
        """Makes a ref on the server and removes it. Raises AccessError with what keeps it from being done."""
        [commit] = self.make([NewCommit("may this runner write?", {})])
        ref = f"{RUNNERS}{name}"
        self._push([Update(ref, None, commit)])
        self._push([Update(ref, commit, None)])

    def _push(self, updates: Sequence[Update], *options: str, each: bool = False) -> set[str]:
        leases = [f"--force-with-lease={one.ref}:{one.old or ''}" for one in updates if not one.anyway]
        specs = [f"{'+' if one.anyway else ''}{one.new or ''}:{one.ref}" for one in updates]
        code, out, err = self._call(
            "push", "--porcelain", "--no-verify", *options, *leases, self._access.url, *specs, seconds=_NETWORK_SECONDS
        )
        if code == 0:
            return set()
        if "does not support --atomic" in err:
            raise _NoAtomicPushError
        refused = _refused(out.decode(errors="replace"))
        if not refused:
            raise explain(self._redactor.text(err), self._access, "push")
        hard = {ref: reason for ref, reason in refused.items() if not _STALE.search(reason)}
        hard = {ref: reason for ref, reason in hard.items() if "atomic" not in reason}
        if hard:
            reasons = "; ".join(f"{ref}: {reason}" for ref, reason in hard.items())
            raise explain(self._redactor.text(f"{err}\n{reasons}"), self._access, "push")
        if each:
            return set(refused)
        raise StaleError

    def check_out(self, commit: str, folder: Path) -> None:
        """A clean worktree of the commit in `folder`, which must not be there. Raises GitError."""
        self._local("worktree", "add", "--quiet", "--force", "--detach", str(folder), commit)

    def remove_worktree(self, folder: Path) -> None:
        """Removes a worktree, whatever was done in it."""
        self._local("worktree", "remove", "--force", "--force", str(folder))

    def tidy(self) -> None:
        """Packs what has piled up and drops what is long unused."""
        self._local("gc", "--quiet", "--auto")

    def _local(self, *arguments: str, stdin: bytes | None = None) -> bytes:
        code, out, err = self._call(*arguments, stdin=stdin, seconds=_LOCAL_SECONDS)
        if code != 0:
            raise GitError(f"git {arguments[0]}: {self._redactor.text(err).strip() or f'ended with {code}'}")
        return out

    def _remote(self, *arguments: str) -> tuple[bytes, str]:
        code, out, err = self._call(*arguments, seconds=_NETWORK_SECONDS)
        if code != 0:
            raise explain(self._redactor.text(err), self._access, arguments[0])
        return out, err

    def _call(self, *arguments: str, seconds: float, stdin: bytes | None = None) -> tuple[int, bytes, str]:
        self.calls[arguments[0]] += 1
        remote = arguments[0] in {"ls-remote", "fetch", "push"}
        environment = self._access.environment() if remote else no_terminal(os.environ)
        with subprocess.Popen(  # noqa: S603 - the arguments are ours; names of experiments have been checked
            ["git", *arguments],  # noqa: S607 - git is where the person has it
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(stdin, timeout=seconds)
            except subprocess.TimeoutExpired:
                # Its helpers (git-remote-https, ssh) hold the pipes as well.
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                if not remote:
                    raise GitError(f"git {arguments[0]} did not end within {seconds:g} s") from None
                raise AccessError.unanswered(self._access, seconds) from None
        return process.returncode, out, err.decode(errors="replace")


class _Objects:
    """Objects of the repository, read by one git that stays."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, name: str) -> tuple[str, bytes] | None:
        """Id and content of an object; None where there is none of that name."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = subprocess.Popen(
                ["git", "cat-file", "--batch"],  # noqa: S607 - git is where the person has it
                cwd=self._folder,
                env=no_terminal(os.environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        if process.stdin is None or process.stdout is None:
            raise GitError("git cat-file has no pipes")
        try:
            process.stdin.write(f"{name}\n".encode())
            process.stdin.flush()
            head = process.stdout.readline().decode().rstrip("\n")
            if head.endswith(("missing", "ambiguous")):
                return None
            oid, _, size = head.split()
            content = process.stdout.read(int(size) + 1)[:-1]
        except (OSError, ValueError) as error:
            process.kill()
            raise GitError(f"git cat-file: {error}") from None
        return oid, content


class _NoAtomicPushError(Exception):
    pass


def _data(content: bytes) -> bytes:
    return f"data {len(content)}\n".encode() + content + b"\n"


def _refused(porcelain: str) -> dict[str, str]:
    """Refs of `git push --porcelain` that were not changed, with the reasons."""
    refused: dict[str, str] = {}
    for line in porcelain.splitlines():
        flag, _, rest = line.partition("\t")
        if flag.strip() == "!" or flag == "!":
            refs, _, reason = rest.partition("\t")
            refused[refs.partition(":")[2]] = reason
    return refused
