"""Puts a runner together from its settings."""

import re
import secrets
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestack_train.errors import SettingsError
from tunestack_train.experiments.access import Access, page_of
from tunestack_train.experiments.cluster.api import Api
from tunestack_train.experiments.cluster.executor import Cluster
from tunestack_train.experiments.devices import Gpu, find_gpus
from tunestack_train.experiments.git import Git
from tunestack_train.experiments.held import Held, Runner
from tunestack_train.experiments.machine import Machine
from tunestack_train.experiments.redaction import Redactor
from tunestack_train.experiments.report import STATUS, Report
from tunestack_train.experiments.results import hostname, now
from tunestack_train.experiments.runner import Service, Tools
from tunestack_train.experiments.settings import Settings
from tunestack_train.experiments.work import Executor
from tunestack_train.experiments.workplace import Workplace
from tunestack_train.notify import Messenger, webhook_url

if TYPE_CHECKING:
    from tunestack_train.experiments.positions import Json

_LAST_WORDS_SECONDS: Final = 30.0


def serve(settings: Settings) -> None:
    """Runs until it is stopped by TERM or INT, or with `once` until nothing is left to do."""
    access, redactor = open_access(settings)
    gpus = find_gpus(settings.gpus) if settings.job_template is None else []
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

    executor = _executor(Workplace(settings, name, git, access, redactor, say), gpus)
    stopping = threading.Event()
    messenger = Messenger(lambda: webhook_url(settings.secrets), say)

    def on_end(held: Held) -> None:
        word = held.word(page_of(settings.url) if settings.link is None else settings.link)
        if word is not None:
            messenger.tell(word)

    tools = Tools(git, executor, report, on_end, say)
    service = Service(settings, runner, tools, stopping)

    def stop(*_: object) -> None:
        stopping.set()
        service.wake()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    has = _resources(settings, gpus)
    say(f"runner {name} ({has}) takes experiments from {settings.branch} of {settings.url}")
    service.run()
    messenger.close(_LAST_WORDS_SECONDS)


def _executor(workplace: Workplace, gpus: Sequence[Gpu]) -> Executor:
    settings = workplace.settings
    if settings.job_template is None:
        return Machine(workplace, gpus)
    return Cluster(workplace, Api.of_pod(settings.service_account), settings.job_template, settings.job_poll)


def _resources(settings: Settings, gpus: Sequence[Gpu]) -> str:
    if settings.job_template is not None:
        return "jobs of the cluster"
    return ", ".join(gpu.name or f"GPU {gpu.index}" for gpu in gpus) or "no GPU"


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
