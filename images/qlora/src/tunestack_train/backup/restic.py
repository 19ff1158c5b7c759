"""Runs restic: one command, its output, and what its failure means for a person."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from tunestack_train.backup.errors import (
    BusyError,
    NetworkError,
    NothingThereError,
    RepositoryError,
    StoppedError,
)
from tunestack_train.backup.locks import Stopped
from tunestack_train.backup.settings import Settings
from tunestack_train.errors import DiskFullError, SettingsError, TunestackError

# restic needs a moment to remove its lock; Docker kills ten seconds after it asks.
_INTERRUPT_SECONDS = 6.0
_UNLOCK_SECONDS = 2.5
_POLL_SECONDS = 0.1
_RETRY = re.compile(r"returned error, retrying after")


@dataclass(frozen=True, slots=True)
class Output:
    """`code` is restic's: 0, or 3 where some files could not be read for a snapshot."""

    code: int
    stdout: str
    stderr: str


class Restic:
    """Runs commands on the repository of `settings`. `descriptors` are locks that a running restic keeps held."""

    def __init__(
        self,
        settings: Settings,
        descriptors: tuple[int, ...],
        stopped: Stopped,
        say: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self._descriptors = descriptors
        self._stopped = stopped
        self._say = say

    def run(self, *arguments: str, accept: Sequence[int] = (0,), limit: float | None = None) -> Output:
        """Runs `restic ARGUMENTS`. Raises the error that fits its failure, also after more than `limit` seconds."""
        program = shutil.which("restic")
        if program is None:
            raise SettingsError("the command restic is missing", "install it: apt-get install restic")
        caching = ["--no-cache"] if self.settings.cache is None else []
        temporary = self.settings.backup / ".tmp"
        temporary.mkdir(exist_ok=True)
        process = subprocess.Popen(  # noqa: S603 - restic by its full path, arguments as a list
            [program, *caching, *arguments],
            env=_environment(self.settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=self._descriptors,
            start_new_session=True,  # a Ctrl-C reaches this program alone, which passes it on
        )
        collector = _Collector(process, self._on_error_line)
        ending = self._wait(process, collector, limit)
        output = collector.finish()
        if ending is not None:
            self._remove_lock_left_behind([program, *caching, "unlock"])
            raise ending
        if output.code not in accept:
            raise explain(output, self.settings)
        return output

    def _remove_lock_left_behind(self, command: list[str]) -> None:
        """A restic that is interrupted just while it makes its lock leaves it; the next one finds its process gone."""
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(  # noqa: S603 - as above
                command, env=_environment(self.settings), capture_output=True, timeout=_UNLOCK_SECONDS, check=False
            )

    def json(self, *arguments: str) -> object:
        """The JSON document that a command prints."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def _on_error_line(self, line: str) -> None:
        if _RETRY.search(line):
            self._say(f"restic: {line}")

    def _wait(
        self, process: subprocess.Popen[bytes], collector: "_Collector", limit: float | None
    ) -> TunestackError | None:
        begin = time.monotonic()
        while not collector.wait(_POLL_SECONDS):
            failure: TunestackError | None = None
            if self._stopped():
                failure = StoppedError("stopped before restic had finished", "nothing is lost; run it again")
            elif limit is not None and time.monotonic() - begin > limit:
                failure = _unreachable(self.settings.shown_repository, f"no answer within {limit:.0f} s")
            elif self.settings.local and collector.retrying:
                # On a disk of one's own a file that cannot be read will not be there on the next try: restic would
                # go on for a quarter of an hour.
                failure = damaged(self.settings, collector.retrying)
            if failure is not None:
                _interrupt(process)
                return failure
        return None


class _Collector:
    """Reads both outputs of a process while it runs."""

    def __init__(self, process: subprocess.Popen[bytes], on_error_line: Callable[[str], None]) -> None:
        self._process = process
        self._on_error_line = on_error_line
        self._stdout: list[bytes] = []
        self._stderr: list[bytes] = []
        self.retrying = ""
        assert process.stdout is not None  # noqa: S101 - for the type checker: both are pipes
        assert process.stderr is not None  # noqa: S101
        self._threads = [
            threading.Thread(target=self._read, args=(process.stdout, self._stdout.append), daemon=True),
            threading.Thread(target=self._read, args=(process.stderr, self._take_error), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether the process has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def finish(self) -> Output:
        for thread in self._threads:
            thread.join()
        stdout, stderr = (b"".join(lines).decode(errors="replace") for lines in (self._stdout, self._stderr))
        return Output(self._process.returncode, stdout, stderr)

    def _take_error(self, line: bytes) -> None:
        self._stderr.append(line)
        text = line.decode(errors="replace").strip()
        if _RETRY.search(text):
            self.retrying = text
        self._on_error_line(text)

    @staticmethod
    def _read(stream: IO[bytes], take: Callable[[bytes], None]) -> None:
        for line in stream:
            take(line)


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_INTERRUPT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment(settings: Settings) -> dict[str, str]:
    """The place and the password file go by the environment: arguments can be read by everybody on the machine."""
    own = ("RESTIC_PASSWORD", "RESTIC_PASSWORD_COMMAND", "RESTIC_REPOSITORY_FILE", "RESTIC_KEY_HINT")
    inherited = {name: value for name, value in os.environ.items() if name not in own}
    return {
        **inherited,
        "RESTIC_REPOSITORY": settings.repository,
        "RESTIC_PASSWORD_FILE": str(settings.password_file),
        "RESTIC_PROGRESS_FPS": "0.1",
        # Packs are made in a temporary folder; /tmp is in memory in a container.
        "TMPDIR": str(settings.backup / ".tmp"),
        **({"RESTIC_CACHE_DIR": str(settings.cache)} if settings.cache else {}),
    }


_DISK_FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_LOCKED = re.compile(r"repository is already locked.*", re.IGNORECASE)
_PASSWORD = re.compile(r"wrong password or no key found")
_NETWORK = re.compile(
    r"dial tcp|no such host|connection refused|connection reset|i/o timeout|TLS handshake|network is unreachable|"
    r"temporary failure in name resolution|context deadline exceeded|unexpected EOF from|certificate",
    re.IGNORECASE,
)
_ACCESS = re.compile(
    r"access ?denied|InvalidAccessKeyId|SignatureDoesNotMatch|could not find default credentials|NoSuchBucket|"
    r"bucket does not exist|permission denied|forbidden",
    re.IGNORECASE,
)
_NO_REPOSITORY = re.compile(r"Is there a repository at the following location|unable to open config file")
_NEVER = re.compile(r"(?!)")
_ACCESS_REMEDIES = {True: "check who owns the folder", False: "check the store's credentials and bucket"}
_NO_SNAPSHOT = re.compile(r"no matching ID found|no snapshot found|snapshot .*not found", re.IGNORECASE)


def explain(output: Output, settings: Settings) -> TunestackError:
    """The error of which a failed command speaks."""
    text, place, local = output.stderr, settings.shown_repository, settings.local
    # The order matters: a store that cannot be reached looks to restic like one that holds no repository.
    causes: tuple[tuple[re.Pattern[str], Callable[[str], TunestackError]], ...] = (
        (_DISK_FULL, _disk_full),
        (_LOCKED, lambda line: BusyError(f"{place}: {line}", "try again when the other one has ended")),
        (_PASSWORD, lambda _: _wrong_password(settings)),
        (_NEVER if local else _NETWORK, lambda line: _unreachable(place, line)),
        (_ACCESS, lambda line: SettingsError(f"{place} cannot be used ({line})", _ACCESS_REMEDIES[local])),
        (
            _NO_REPOSITORY,
            lambda _: NothingThereError(f"there is no repository at {place}", "take a first snapshot: `now`"),
        ),
        (_NO_SNAPSHOT, lambda line: NothingThereError(line, "`list` shows the snapshots that there are")),
    )
    for pattern, error in causes:
        if pattern.search(text):
            return error(_line(text, pattern))
    return damaged(settings, _last_line(text) or f"restic ended with code {output.code}")


def _disk_full(line: str) -> TunestackError:
    remedy = "make room on the disk; older snapshots go with a stricter setting backup.keep"
    return DiskFullError(f"the disk is full: restic could not write ({line})", remedy)


def _wrong_password(settings: Settings) -> TunestackError:
    return RepositoryError(
        f"the password in {settings.password_file} does not open the repository {settings.shown_repository}",
        "put the password with which it was made into that file; without it nobody can read the snapshots",
    )


def _unreachable(place: str, detail: str) -> TunestackError:
    remedy = "check the network and the address; training-backup goes on trying"
    return NetworkError(f"{place} cannot be reached ({detail})", remedy)


def damaged(settings: Settings, detail: str) -> RepositoryError:
    """The repository does not hold what it should."""
    return RepositoryError(
        f"the repository {settings.shown_repository} is damaged: {detail}",
        "copy the folder elsewhere before anything else; `restic rebuild-index` and `restic check` may mend it, "
        "or move it away and a new one is begun",
    )


def _line(text: str, pattern: re.Pattern[str]) -> str:
    return next((_clean(line) for line in text.splitlines() if pattern.search(line)), _last_line(text))


def _last_line(text: str) -> str:
    lines = [cleaned for line in text.splitlines() if (cleaned := _clean(line))]
    # «repository contains errors» ends a check; what is wrong stands before it.
    telling = [line for line in lines if line != "repository contains errors"]
    return (telling or lines or [""])[-1]


def _clean(line: str) -> str:
    return re.sub(r"\x1b\[\d*[A-Z]", "", line).strip().removeprefix("Fatal: ").rstrip(".")
