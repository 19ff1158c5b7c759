"""Where things are on the VM, and what its boot script left for the agent."""

import json
import os
from pathlib import Path
from typing import Any

CONFIGURATION = Path("/etc/tunestack/agent.json")
# The data disk, which outlives the VM.
DATA = Path("/var/lib/tunestack")
DISK = Path("/dev/disk/by-id/google-tunestack-data")
# In memory: gone with the VM.
RUN = Path("/run/tunestack")
# File there: generation of the plan that was applied last, for whoever waits for it.
APPLIED = "applied"
# Who the containers run as; they must be able to read their secrets.
CONTAINER_USER = 1000


class AgentError(Exception):
    """What went wrong, for people."""


def configuration() -> dict[str, Any]:
    """What the boot script wrote: project, region, group, bucket, secrets, maximumRunSeconds, idleShutdownSeconds."""
    loaded: dict[str, Any] = json.loads(CONFIGURATION.read_text())
    return loaded


def write_aside(path: Path, content: bytes, mode: int = 0o644, owner: int | None = None) -> None:
    """A reader sees the old file or the new one, and never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    # One that a crash left may have another mode.
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if owner is not None and os.geteuid() == 0:
        os.chown(aside, owner, owner)
    aside.rename(path)
