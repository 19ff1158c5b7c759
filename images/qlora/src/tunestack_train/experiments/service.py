"""Puts a runner together from its settings."""

import contextlib
import re
import secrets
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestack_train.errors import SettingsError
from tunestack_train.experiments.access import Access, page_of
from tunestack_train.experiments.board import Item
from tunestack_train.experiments.devices import Gpu, Slots, find_gpus
from tunestack_train.experiments.execution import Execution, Job
from tunestack_train.experiments.git import Git
from tunestack_train.experiments.held import Held, Runner
from tunestack_train.experiments.jobs import command_of, environment_of
from tunestack_train.experiments.log_file import LogFile
from tunestack_train.experiments.redaction import Redactor
from tunestack_train.experiments.report import STATUS, Report
from tunestack_train.experiments.results import LOG, hostname, now
from tunestack_train.experiments.runner import Service, Tools
from tunestack_train.experiments.settings import Settings
from tunestack_train.notify import Messenger, webhook_url

if TYPE_CHECKING:
    from tunestack_train.experiments.positions import Json

_LAST_WORDS_SECONDS: Final = 30.0


def serve(settings: Settings) -> None:
    """Runs until it is stopped by TERM or INT, or with `once` until nothing is left to do."""
    access, redactor = open_access(settings)
    gpus = find_gpus(settings.gpus)
    instance = _instance(settings.state)
    name = settings.name or f"{re.sub(r'[^a-z0-9-]', '-', hostname().lower())[:40]}-{instance[:6]}"
    if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name) is None:
        raise SettingsError(f"--name {name} cannot be the name of a runner", "take lower case, digits and hyphens")
    runner = Runner(name, instance, settings.image_digest)
    git = Git(settings.state / "repository.git", access, settings.branch, redactor)
    git.prepare()
    fixed: dict[str, Json] = {
        "schema": 1,
        "runner": name,
        "instance": instance,
        "host": hostname(),
        "started_at": now(),
        "poll_seconds": settings.poll,
        "gpus": [dict(gpu.as_dict()) for gpu in gpus],
    }
    report = Report(settings.state / STATUS, fixed, settings.poll)

    def say(line: str) -> None:
        print(f"{now()} {redactor.text(line)}", flush=True)

    def execute(item: Item, number: int, commit: str, given: tuple[Gpu, ...], wake: Callable[[], None]) -> Execution:
        output = settings.outputs / item.name
        # Where it cannot be made, the execution ends with that as its error.
        with contextlib.suppress(OSError):
            output.mkdir(parents=True, exist_ok=True)
        redactor.add(access.all_secrets())
        log = LogFile(output / LOG, settings.most_log_bytes, redactor, lambda error: say(f"{item.name}: {error}"))
        log.say(f"{now()} attempt {number} of {item.name} on {name}, commit {commit}")
        job = Job(item.name, command_of(item), commit, item.timeout, given, environment_of(item, number))
        # A name that no git of an earlier runner, killed a moment ago, can still be busy with.
        worktree = settings.worktrees / f"{item.name}-{secrets.token_hex(4)}"
        return Execution(job, git, worktree, output, log, settings.grace, wake)

    slots = Slots(gpus, settings.cpu_places, gpus_on_cpu=settings.gpus_on_cpu)
    stopping = threading.Event()
    messenger = Messenger(lambda: webhook_url(settings.secrets), say)

    def on_end(held: Held) -> None:
        word = held.word(page_of(settings.url) if settings.link is None else settings.link)
        if word is not None:
            messenger.tell(word)

    tools = Tools(git, slots, report, execute, on_end, say)
    service = Service(settings, runner, tools, stopping)

    def stop(*_: object) -> None:
        stopping.set()
        service.wake()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    has = ", ".join(gpu.name or f"GPU {gpu.index}" for gpu in gpus) or "no GPU"
    say(f"runner {name} ({has}) takes experiments from {settings.branch} of {settings.url}")
    service.run()
    messenger.close(_LAST_WORDS_SECONDS)


def open_access(settings: Settings) -> tuple[Access, Redactor]:
    """Access as the settings have it. Raises SettingsError for an address or a key that cannot be used."""
    # On disk only where there is nowhere else: a key from the environment is written there.
    private = settings.state / "private"
    access = Access(settings.url, private, settings.user, settings.secrets)
    access.check()
    return access, Redactor(access.all_secrets())


def _instance(state: Path) -> str:
    """What tells this state folder from every other. Made once."""
    file = state / "instance"
    try:
        text = file.read_text().strip()
    except FileNotFoundError:
        text = ""
    if not text:
        text = secrets.token_hex(16)
        file.write_text(text + "\n")
    return text
