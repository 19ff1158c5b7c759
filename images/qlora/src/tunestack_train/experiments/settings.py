"""The settings of a runner."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunestack_train.experiments.cluster.api import SERVICE_ACCOUNT

DEFAULT_BRANCH: Final = "gpu-experiments"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A runner, fully resolved. Durations in seconds, sizes in bytes.

    `state` is the runner's own folder (repository, worktrees), `outputs` where results stay. `image_digest` and `link`
    go into results and messages. With `job_template` experiments become jobs of the cluster that this is a pod of.
    """

    url: str
    state: Path
    outputs: Path
    branch: str = DEFAULT_BRANCH
    name: str | None = None
    poll: float = 60.0
    lease: float = 300.0
    grace: float = 30.0
    gpus: str = "auto"
    cpu_places: int = 1
    gpus_on_cpu: bool = False
    once: bool = False
    most_log_bytes: int = 64 << 20
    least_free_bytes: int = 1 << 30
    secrets: Path = Path("/run/secrets")
    user: str = "x-access-token"
    image_digest: str | None = None
    link: str | None = None
    job_template: Path | None = None
    job_poll: float = 5.0
    service_account: Path = SERVICE_ACCOUNT

    @property
    def worktrees(self) -> Path:
        """Where experiments at work have their code, each in a folder of its own."""
        return self.state / "worktrees"

    @property
    def heartbeat(self) -> float:
        """Seconds between heartbeats: four may be lost before the lease ends."""
        return self.lease / 5
