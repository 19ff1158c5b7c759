"""The plan from the bucket: a compose file, applied service by service, and a run that goes on where it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cloud import authorised, call, get, object_url, put, remove, status
from content import fetch_inputs, fetch_secrets
from engine import BACKUP_SERVICE, RUN_SERVICE, SPECIFICATION, compose, container_of, docker, found_run, log_in
from machine import APPLIED, RUN, AgentError, write_aside

PLAN = "plan/compose.yaml"
ENDED = "status/ended-run"
# A run that is done, or was stopped on request with a checkpoint saved.
ENDED_WELL = (0, 75)


def plan_generation(config: dict[str, Any]) -> str:
    """Changes with every change of the plan."""
    try:
        plan = json.loads(call(object_url(config["bucket"], PLAN), headers=authorised()))
    except FileNotFoundError:
        raise AgentError(f"there is no {PLAN} in the bucket {config['bucket']}: npx pulumi up") from None
    return str(plan["generation"])


def apply_plan(config: dict[str, Any]) -> None:
    """Brings up what the plan says. Raises AgentError with every service that does not come up; the others do."""
    generation = plan_generation(config)
    fetch_secrets(config)
    fetch_inputs(config)
    write_aside(RUN / "compose.yaml", get(config["bucket"], PLAN))
    log_in(config)
    plan = json.loads(compose("config", "--format", "json"))
    for volume in plan.get("volumes", {}).values():
        Path(volume["driver_opts"]["device"]).mkdir(parents=True, exist_ok=True)
    found = found_run() if plan.get("x-tunestack", {}).get("run") else None
    names, message = services_to_start(plan, found, ended_run(config))
    remove_orphans(plan)
    failed: list[str] = []
    # Before training-backup is up, which would make what this disk holds the newest snapshot.
    if {RUN_SERVICE, BACKUP_SERVICE} <= set(names) and container_of(BACKUP_SERVICE, running=True) is None:
        try:
            message = restore_newer(config, plan, message)
        except (AgentError, ValueError, LookupError) as error:
            failed.append(f"the run waits, since it cannot be told whether the bucket has a newer checkpoint: {error}")
            names = [name for name in names if name not in (RUN_SERVICE, BACKUP_SERVICE)]
    for name in names:
        try:
            status(config, "starting", name)
            compose("up", "--detach", "--no-deps", name)
        except AgentError as error:
            failed.append(f"{name} does not come up: {error}")
    if failed:
        raise AgentError("; ".join(failed))
    write_aside(RUN / APPLIED, generation.encode())
    status(config, "up", message)


def services_to_start(plan: dict[str, Any], found: dict[str, Any] | None, ended: str | None) -> tuple[list[str], str]:
    """Which services to bring up, the run last, and what to say. A run that has ended stays ended."""
    extension = plan.get("x-tunestack", {})
    run = extension.get("run")
    others = sorted(name for name in plan["services"] if name != run)
    if run is None:
        return others, "the services are up"
    wanted = plan["services"][run]["labels"][SPECIFICATION]
    if wanted == ended:
        return others, "the services are up; the run has ended"
    if found is not None and found["state"]["Running"]:
        if found["specification"] == wanted:
            return others, "the services are up; the run goes on"
        if not extension.get("replaceRunning", False):
            return others, "another run is in progress and was not replaced: npm run train-stop first"
    return [*others, run], "the services are up; the run is starting"


def remove_orphans(plan: dict[str, Any]) -> None:
    """Containers of services that the plan has no more; a run in progress is not one of them."""
    project = ["--filter", f"label=com.docker.compose.project={plan['name']}"]
    told = docker("ps", "--all", *project, "--format", '{{.ID}} {{.Label "com.docker.compose.service"}} {{.State}}')
    for container, service, state in (line.split() for line in told.splitlines()):
        if service not in plan["services"] and not (service == RUN_SERVICE and state == "running"):
            docker("rm", "--force", container)


def restore_newer(config: dict[str, Any], plan: dict[str, Any], message: str) -> str:
    """Takes the run's newest checkpoint from the bucket where this disk has an older one or none; says so."""
    run = plan["services"][RUN_SERVICE]["environment"]["TUNESTACK_RUN"]
    status(config, "starting", f"looking for a newer checkpoint of {run} in the bucket")
    command = ("python", "-m", "tunestack_train.backup", "restore", f"--run={run}", "--if-newer", "--json")
    answer = compose("run", "--rm", "--no-deps", "--no-TTY", BACKUP_SERVICE, *command)
    restored = json.loads(answer.strip().splitlines()[-1])
    if not restored["restored"]:
        return message
    return f"{message}, from snapshot {restored['snapshot_id']}, which is newer than this disk"


def ended_run(config: dict[str, Any]) -> str | None:
    """The specification of the run that ended well last; in the bucket, since the next VM may have another disk."""
    try:
        return get(config["bucket"], ENDED).decode()
    except FileNotFoundError:
        return None


def note_ended_run(config: dict[str, Any], leaving: Callable[[], bool]) -> None:
    """A run that ended well is noted, so that it is not started again on the next VM."""
    found = found_run()
    if found is None:
        return
    if found["state"]["Running"]:
        # Somebody started it again: it goes on on the next VM, too.
        if found["specification"] == ended_run(config):
            remove(config["bucket"], ENDED)
        return
    if found["state"]["Status"] != "exited" or found["state"]["ExitCode"] not in ENDED_WELL:
        return
    # A run that the VM's own end stopped goes on on the next one.
    if found["specification"] != ended_run(config) and not leaving():
        put(config["bucket"], ENDED, str(found["specification"]).encode())
        status(config, "up", "the services are up; the run has ended")
