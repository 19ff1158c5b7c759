"""An experiment as a Job, and what a Job and its pod tell of it: pure, to be tried out without a cluster."""

import copy
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, cast

from tunestack_train.errors import SettingsError
from tunestack_train.experiments.cluster import first_process
from tunestack_train.experiments.cluster.api import Object
from tunestack_train.experiments.execution import STOPPED_WITH_CHECKPOINT, Ending, Job, shell_arguments
from tunestack_train.experiments.positions import Json

QUEUE_LABEL: Final = "tunestack.dev/experiment-queue"
EXPERIMENT_LABEL: Final = "tunestack.dev/experiment"
ATTEMPT_LABEL: Final = "tunestack.dev/attempt"
NAME_ANNOTATION: Final = "tunestack.dev/name"
COMMIT_ANNOTATION: Final = "tunestack.dev/commit"
# On the template: the most GPUs that the queue gives to one pod.
MOST_GPUS_ANNOTATION: Final = "tunestack.dev/most-gpus"
_GPU_RESOURCE: Final = "nvidia.com/gpu"
_HIDES_GPUS: Final = "NVIDIA_VISIBLE_DEVICES"
# A pod's name is its job's with six characters more, and is a label.
_LONGEST_SLUG: Final = 30
# A shell, and a container, ends with 128 and the signal that ended its command.
_LAST_SIGNAL: Final = 31


@dataclass(frozen=True)
class Template:
    """The Job that `pulumi up` has rendered for experiments; what one experiment alone has is filled in."""

    content: Object

    @classmethod
    def read(cls, path: Path) -> "Template":
        """Raises SettingsError where there is none."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            remedy = "give the file that pulumi up has rendered"
            raise SettingsError(f"{path} is no template of a Job: {error}", remedy) from None
        return cls(content)

    @property
    def most_gpus(self) -> int:
        return int(str(_at(self.content, "metadata", "annotations", MOST_GPUS_ANNOTATION) or 0))

    def job(self, named: "Named", job: Job, worktree: Path, environment: Mapping[str, str], image: str) -> Object:
        """The Job of an attempt: its pod has the GPUs and runs the command in the worktree, no longer than its time."""
        made = copy.deepcopy(dict(self.content))
        labels = named.labels
        metadata = _part(made, "metadata")
        metadata["name"] = named.object_name
        metadata["labels"] = {**_part(metadata, "labels"), **labels}
        metadata["annotations"] = {NAME_ANNOTATION: named.name, COMMIT_ANNOTATION: job.commit}
        spec = _part(made, "spec")
        # Counted from when the queue lets it start, and anew after each time that the queue took its place away.
        spec["activeDeadlineSeconds"] = max(1, int(job.timeout))
        if not isinstance(job.command, str):
            rules = cast("list[Json]", _part(spec, "podFailurePolicy").setdefault("rules", []))
            rules.append({"action": "Ignore", "onExitCodes": {"operator": "In", "values": [STOPPED_WITH_CHECKPOINT]}})
        pod = _part(spec, "template")
        pod_metadata = _part(pod, "metadata")
        pod_metadata["labels"] = {**_part(pod_metadata, "labels"), **labels}
        _fill_container(_container(_part(pod, "spec")), job, worktree, environment, image)
        return made


@dataclass(frozen=True)
class Named:
    """An attempt of an experiment of one queue: a branch of a repository."""

    queue: str
    name: str
    number: int

    @property
    def key(self) -> str:
        """The experiment's name as a label, which takes fewer characters than a name has."""
        return _hash(self.queue, self.name)

    @property
    def object_name(self) -> str:
        """The same for whoever asks, so that an attempt is never there twice."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.name)[:_LONGEST_SLUG].strip("-")
        start = slug if slug[:1].isalpha() else f"x-{slug}".rstrip("-")
        return f"{start}-{self.key[:8]}-{self.number}"

    @property
    def labels(self) -> dict[str, Json]:
        return {QUEUE_LABEL: self.queue, EXPERIMENT_LABEL: self.key, ATTEMPT_LABEL: str(self.number)}


def queue_of(url: str, branch: str) -> str:
    """What tells the jobs of one queue from those of another in a namespace."""
    return _hash(url, branch)


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _fill_container(
    container: dict[str, Json], job: Job, worktree: Path, environment: Mapping[str, str], image: str
) -> None:
    container["image"] = image
    first = [sys.executable, "-I", "-S", first_process.__file__]
    container["args"] = cast("Json", [*first, *shell_arguments(job.command)])
    container["workingDir"] = str(worktree)
    count = len(job.gpus)
    given = cast("list[dict[str, Json]]", container.get("env", []))
    if count > 0:
        given = [one for one in given if one.get("name") != _HIDES_GPUS]
        resources = _part(container, "resources")
        for kind in ("requests", "limits"):
            _part(resources, kind)[_GPU_RESOURCE] = str(count)
    known = {str(one["name"]): one for one in given} | {
        name: {"name": name, "value": value} for name, value in environment.items()
    }
    container["env"] = cast("Json", [known[name] for name in sorted(known)])


def named_of(job: Object) -> tuple[str, int]:
    """The experiment and attempt of a Job."""
    name = str(_at(job, "metadata", "annotations", NAME_ANNOTATION) or "")
    return name, int(str(_at(job, "metadata", "labels", ATTEMPT_LABEL) or 0))


def object_name(found: Object) -> str:
    return str(_at(found, "metadata", "name") or "")


def commit_of(job: Object) -> str:
    return str(_at(job, "metadata", "annotations", COMMIT_ANNOTATION) or "")


def worktree_of(job: Object) -> Path:
    pod = _at(job, "spec", "template", "spec")
    return Path(str(_container(cast("dict[str, Json]", pod)).get("workingDir") or ""))


def is_being_removed(found: Object) -> bool:
    return _at(found, "metadata", "deletionTimestamp") is not None


def is_waiting(job: Object) -> bool:
    """Whether the queue holds it back."""
    return _at(job, "spec", "suspend") is True


def pod_of(job: Object, pods: Iterable[Object]) -> Object | None:
    """The newest pod of a Job; earlier ones lost their place or their node."""
    name = object_name(job)
    own = [pod for pod in pods if _at(pod, "metadata", "labels", "batch.kubernetes.io/job-name") == name]
    return max(own, key=lambda pod: str(_at(pod, "metadata", "creationTimestamp") or ""), default=None)


def node_of(pod: Object) -> str | None:
    node = _at(pod, "spec", "nodeName")
    return node if isinstance(node, str) else None


def has_started(pod: Object) -> bool:
    """Whether its container has begun, so that it may have said something."""
    return _at(pod, "status", "phase") in {"Running", "Succeeded", "Failed"}


def has_ended(job: Object) -> bool:
    return _finished(job) is not None


def ending_of(job: Object, pod: Object | None, timeout: float) -> Ending | None:
    """How a Job has ended; None while it has not."""
    state = _finished(job)
    if state is None:
        return None
    kind, reason, message, when = state
    seconds = _seconds(_at(job, "status", "startTime"), when)
    code, why = _exit_of(pod)
    if kind == "Complete":
        return Ending("completed", 0, None, seconds)
    if reason == "DeadlineExceeded":
        return Ending("timeout", code, f"ended after {timeout:g} s, its timeout", seconds)
    if code is None:
        return Ending("error", None, f"its job has failed: {reason}: {message}", seconds)
    killed = 128 < code <= _LAST_SIGNAL + 128
    told = f"ended by signal {code - 128}" if killed else None
    if why == "OOMKilled":
        told = "ended for memory: it needed more than its job may have"
    return Ending("failed", 128 - code if killed else code, told, seconds)


def _finished(job: Object) -> tuple[str, str, str, Json] | None:
    conditions = _at(job, "status", "conditions")
    for one in conditions if isinstance(conditions, list) else []:
        if isinstance(one, dict) and one.get("status") == "True" and one.get("type") in {"Complete", "Failed"}:
            reason, message = str(one.get("reason") or ""), str(one.get("message") or "")
            return str(one["type"]), reason, message, one.get("lastTransitionTime")
    return None


def _exit_of(pod: Object | None) -> tuple[int | None, str]:
    statuses = _at(pod, "status", "containerStatuses") if pod is not None else None
    for one in statuses if isinstance(statuses, list) else []:
        ended = _at(cast("Object", one), "state", "terminated")
        if isinstance(ended, dict) and isinstance(ended.get("exitCode"), int):
            return cast("int", ended["exitCode"]), str(ended.get("reason") or "")
    return None, ""


def _seconds(start: Json, end: Json) -> float:
    try:
        return max(0.0, (_time(end) - _time(start)).total_seconds())
    except ValueError:
        return 0.0


def _time(text: Json) -> datetime:
    return datetime.fromisoformat(str(text).replace("Z", "+00:00"))


def _at(found: Object | None, *path: str) -> Json:
    value: Json = cast("Json", found)
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _part(of: dict[str, Json], key: str) -> dict[str, Json]:
    return cast("dict[str, Json]", of.setdefault(key, {}))


def _container(pod: Mapping[str, Json]) -> dict[str, Json]:
    containers = cast("list[dict[str, Json]]", pod["containers"])
    return containers[0]
