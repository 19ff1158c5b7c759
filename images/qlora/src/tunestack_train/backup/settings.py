"""What the backup is told: folders and repository by the environment, times and retention by it or by options."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunestack_train.errors import SettingsError
from tunestack_train.units import parse_duration

Part = Literal["checkpoints", "logs", "gguf"]
PARTS: tuple[Part, ...] = ("checkpoints", "logs", "gguf")

KEEP_KINDS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
DEFAULT_KEEP = "last=6,hourly=24,daily=7,weekly=4"


@dataclass(frozen=True, slots=True)
class Settings:
    """`keep` is in restic's kinds (last, hourly, …), nothing in it keeps all; times are in seconds."""

    folders: Mapping[Part, Path]
    backup: Path
    repository: str
    password_file: Path
    cache: Path | None
    interval: float
    drill_interval: float
    keep: Mapping[str, int]

    @property
    def local(self) -> bool:
        """Whether the repository is a folder, and not in an object store."""
        return not self.repository.startswith(("s3:", "gs:"))

    @property
    def shown_repository(self) -> str:
        """The repository's place without a password that its address may hold."""
        return re.sub(r"//[^/@]*@", "//", self.repository)

    @property
    def status_file(self) -> Path:
        return self.folders["logs"] / "backup_status.json"


def load(environment: Mapping[str, str]) -> Settings:
    """Reads the settings. Raises SettingsError with all that is wrong with them."""
    problems: list[str] = []
    folders: dict[Part, Path] = {
        # Resolved, because restic would store a link instead of what it leads to.
        "checkpoints": Path(environment.get("TUNESTACK_CHECKPOINTS_DIR", "/checkpoints")).resolve(),
        "logs": Path(environment.get("TUNESTACK_LOGS_DIR", "/logs")).resolve(),
        "gguf": Path(environment.get("TUNESTACK_GGUF_DIR", "/models/gguf")).resolve(),
    }
    backup = Path(environment.get("TUNESTACK_BACKUP_DIR", "/backup")).resolve()
    secrets = Path(environment.get("TUNESTACK_SECRETS_DIR", "/run/secrets"))
    repository = environment.get("RESTIC_REPOSITORY") or str(backup / "restic")
    if re.match(r"[a-z0-9]+:", repository) and not repository.startswith(("s3:", "gs:")):
        problems.append(
            f"RESTIC_REPOSITORY is {repository!r}; it takes a folder, s3:HOST/BUCKET/PATH or gs:BUCKET:/PATH"
        )
    problems += _folder_problems(folders, backup)
    password_file = secrets / "restic-password"
    problems += _password_problems(password_file)
    interval = _duration(environment, "TUNESTACK_BACKUP_INTERVAL", "1h", problems)
    drill_interval = _duration(environment, "TUNESTACK_BACKUP_DRILL_INTERVAL", "24h", problems)
    keep = _keep(environment.get("TUNESTACK_BACKUP_KEEP", DEFAULT_KEEP), problems)
    if problems:
        raise SettingsError("; ".join(problems), "correct the settings of training-backup and start it again")
    # For a local repository a cache would be a second copy on the same disk.
    remote = repository.startswith(("s3:", "gs:"))
    cache = Path(environment.get("RESTIC_CACHE_DIR") or backup / "cache") if remote else None
    return Settings(folders, backup, repository, password_file, cache, interval, drill_interval, keep)


def _folder_problems(folders: Mapping[Part, Path], backup: Path) -> list[str]:
    problems = [
        f"{folder} has a comma in its name, which a snapshot cannot note down"
        for folder in folders.values()
        if "," in str(folder)
    ]
    if not backup.is_dir():
        problems.append(f"the backup folder {backup} does not exist (TUNESTACK_BACKUP_DIR)")
    elif not os.access(backup, os.W_OK):
        problems.append(f"user {os.getuid()} cannot write to the backup folder {backup}")
    problems += [
        f"the backup folder {backup} is inside {folder}, which it should save"
        for folder in folders.values()
        if backup.is_relative_to(folder)
    ]
    return problems


def _password_problems(file: Path) -> list[str]:
    try:
        text = file.read_text()
    except FileNotFoundError:
        return [f"there is no password: the file {file} is missing; put one line into it, and keep a copy elsewhere"]
    except (OSError, UnicodeDecodeError) as error:
        return [f"the password file {file} cannot be read: {error}"]
    return [] if text.strip() else [f"the password file {file} is empty"]


def _duration(environment: Mapping[str, str], name: str, default: str, problems: list[str]) -> float:
    try:
        return parse_duration(environment.get(name, default))
    except ValueError as error:
        problems.append(f"{name}: {error}")
        return parse_duration(default)


def _keep(text: str, problems: list[str]) -> dict[str, int]:
    keep: dict[str, int] = {}
    for part in text.split(","):
        kind, _, number = part.strip().partition("=")
        if kind not in KEEP_KINDS or not number.isdigit():
            kinds = ", ".join(KEEP_KINDS)
            problems.append(f"TUNESTACK_BACKUP_KEEP has {part.strip()!r}; write KIND=NUMBER with a kind of {kinds}")
        else:
            keep[kind] = int(number)
    return {kind: number for kind, number in keep.items() if number > 0}
