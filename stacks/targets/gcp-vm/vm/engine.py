"""What the agent asks of Docker."""

import json
import os
import subprocess
from typing import Any

from cloud import authorised
from machine import RUN, AgentError

RUN_SERVICE = "qlora-training"
RUNNER_SERVICE = "experiment-runner"
BACKUP_SERVICE = "training-backup"
SPECIFICATION = "dev.tunestack.specification"


def docker(*arguments: str, stdin: str | None = None, limit: float | None = None) -> str:
    """What a command of Docker's prints. Raises AgentError with what it complained of, or after `limit` seconds."""
    # Logins to the registry stay in memory.
    environment = {**os.environ, "DOCKER_CONFIG": str(RUN / "docker")}
    try:
        done = subprocess.run(  # noqa: S603 - arguments as a list
            ["docker", *arguments],  # noqa: S607 - from root's own PATH
            input=stdin,
            capture_output=True,
            text=True,
            env=environment,
            check=False,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        raise AgentError(f"docker {arguments[0]} took more than {limit:.0f} s") from None
    if done.returncode != 0:
        raise AgentError(f"docker {arguments[0]}: {(done.stderr.strip() or done.stdout.strip())[-500:]}")
    return done.stdout


def compose(*arguments: str) -> str:
    return docker("compose", "--file", str(RUN / "compose.yaml"), *arguments)


def log_in(config: dict[str, Any]) -> None:
    """To the stack's registry, by the VM's account, for an hour."""
    token = authorised()["Authorization"].removeprefix("Bearer ")
    registry = f"{config['region']}-docker.pkg.dev"
    docker("login", "--username", "oauth2accesstoken", "--password-stdin", registry, stdin=token)


def container_of(service: str, *, running: bool = False) -> str | None:
    """The id of a service's container; None where there is none."""
    everyone = [] if running else ["--all"]
    labels = [f"label=com.docker.compose.service={service}", "label=com.docker.compose.oneoff=False"]
    filters = [word for label in labels for word in ("--filter", label)]
    found = docker("ps", *everyone, "--quiet", *filters).split()
    return found[0] if found else None


def found_run() -> dict[str, Any] | None:
    """State and specification of the run's container; None where there is none."""
    container = container_of(RUN_SERVICE)
    if container is None:
        return None
    seen = json.loads(docker("inspect", container))[0]
    return {"state": seen["State"], "specification": seen["Config"]["Labels"].get(SPECIFICATION)}
