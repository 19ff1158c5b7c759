"""The VM's own part: disk, secrets, plan, status, and the end of its time. Python's standard library alone.

Runs as root on the VM, configured by /etc/tunestack/agent.json, which the boot script writes. It talks to Google by
the VM's own account, whose token comes from the metadata server; nothing secret is kept but in memory (/run).
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("TUNESTACK_AGENT_ROOT", "/"))
METADATA = os.environ.get("TUNESTACK_METADATA", "http://metadata.google.internal/computeMetadata/v1")
STORAGE = os.environ.get("TUNESTACK_STORAGE", "https://storage.googleapis.com")
SECRET_MANAGER = os.environ.get("TUNESTACK_SECRET_MANAGER", "https://secretmanager.googleapis.com")
COMPUTE = os.environ.get("TUNESTACK_COMPUTE", "https://compute.googleapis.com")

DATA = ROOT / "var/lib/tunestack"
RUN = ROOT / "run/tunestack"
COMPOSE = RUN / "compose.yaml"
# Who the containers run as; they must be able to read their secrets.
CONTAINER_USER = 1000
POLL_SECONDS = 15
# A run that is done, or was stopped on request with a checkpoint saved.
ENDED_WELL = (0, 75)
LABEL = "dev.tunestack.specification"


class Failure(Exception):
    """What went wrong, for people."""


def configuration() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "etc/tunestack/agent.json").read_text())
    return loaded


def call(
    url: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None, tries: int = 5
) -> bytes:
    """One request, tried again where network or server stumble. Raises Failure, and FileNotFoundError on 404."""
    for attempt in range(tries):
        request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise FileNotFoundError(url) from None
            if error.code < 500 and error.code != 429:
                told = error.read()[:300].decode(errors="replace")
                raise Failure(f"{method} {url}: {error.code} {told}") from None
            reason = str(error.code)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = str(error)
        if attempt + 1 < tries:
            time.sleep(min(2**attempt, 20))
    raise Failure(f"{method} {url}: {reason}")


def metadata(path: str) -> str:
    return call(f"{METADATA}/{path}", headers={"Metadata-Flavor": "Google"}).decode()


def authorised() -> dict[str, str]:
    token = json.loads(metadata("instance/service-accounts/default/token"))["access_token"]
    return {"Authorization": f"Bearer {token}"}


def own_zone() -> str:
    return metadata("instance/zone").rsplit("/", 1)[-1]


def object_url(bucket: str, name: str) -> str:
    return f"{STORAGE}/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}"


def write_aside(path: Path, content: bytes, mode: int = 0o644, owner: int | None = None) -> None:
    """A reader sees the old file or the new one, and never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if owner is not None and os.geteuid() == 0:
        os.chown(aside, owner, owner)
    aside.rename(path)


def status(config: dict[str, Any], stage: str, message: str) -> None:
    """Tells serial console and bucket how far the VM is. A bucket that cannot be reached stops nothing."""
    print(f"tunestack: {stage}: {message}", flush=True)
    try:
        report = {
            "schema": 1,
            "stage": stage,
            "message": message,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "instance": metadata("instance/name"),
            "zone": own_zone(),
            "machineType": metadata("instance/machine-type").rsplit("/", 1)[-1],
        }
        put(config, "status/vm.json", json.dumps(report).encode())
    except (Failure, FileNotFoundError) as error:
        print(f"tunestack: the status could not be written: {error}", flush=True)


def put(config: dict[str, Any], name: str, content: bytes) -> None:
    query = urllib.parse.urlencode({"uploadType": "media", "name": name})
    headers = {**authorised(), "Content-Type": "application/json"}
    call(f"{STORAGE}/upload/storage/v1/b/{config['bucket']}/o?{query}", "POST", content, headers)


def plan_generation(config: dict[str, Any]) -> str:
    try:
        plan = json.loads(call(object_url(config["bucket"], "plan/compose.yaml"), headers=authorised()))
    except FileNotFoundError:
        raise Failure(f"there is no plan/compose.yaml in the bucket {config['bucket']}: npx pulumi up") from None
    return str(plan["generation"])


# --- the end of its time -------------------------------------------------------------------------------------------


def check_lease(config: dict[str, Any]) -> None:
    """A VM that the cloud deleted at the end of its time and the group brought back goes away again.

    The first VM that sees a plan notes when; whoever comes after the maximum run time of the same plan takes the group
    down to none. A new plan, or a start after that, has its own time.
    """
    generation = plan_generation(config)
    try:
        lease = json.loads(call(f"{object_url(config['bucket'], 'status/lease.json')}?alt=media", headers=authorised()))
    except FileNotFoundError:
        lease = {}
    if lease.get("plan") != generation:
        put(config, "status/lease.json", json.dumps({"plan": generation, "since": time.time()}).encode())
        return
    if time.time() - lease["since"] >= config["maximumRunSeconds"]:
        take_down(config, "the maximum run time is over")


def take_down(config: dict[str, Any], reason: str) -> None:
    """Takes the group of one down to none: nothing costs any more but the disks."""
    status(config, "going", reason)
    try:
        call(object_url(config["bucket"], "status/lease.json"), "DELETE", headers=authorised())
    except FileNotFoundError:
        pass
    group = f"{COMPUTE}/compute/v1/projects/{config['project']}/regions/{config['region']}"
    call(f"{group}/instanceGroupManagers/{config['group']}/resize?size=0", "POST", b"", authorised())
    raise SystemExit(0)


class Idleness:
    """How long neither a run nor anybody else has had the GPU at work; an open notebook alone is no work."""

    BUSY_PERCENT = 5

    def __init__(self) -> None:
        self.last_work = time.time()

    def seconds(self) -> float:
        heartbeats = [path.stat().st_mtime for path in (DATA / "volumes/training_logs").glob("*/status.json")]
        if self.gpu_percent() >= self.BUSY_PERCENT:
            self.last_work = time.time()
        self.last_work = max([self.last_work, *heartbeats])
        return time.time() - self.last_work

    @staticmethod
    def gpu_percent() -> float:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        done = subprocess.run(query, capture_output=True, text=True, check=False)
        values = [float(line) for line in done.stdout.split() if line.isdigit()]
        return max(values, default=0.0)


# --- disk ----------------------------------------------------------------------------------------------------------


def attach_disk(config: dict[str, Any]) -> None:
    """Attaches the data disk of this zone to this VM; does nothing where it is attached already."""
    zone = own_zone()
    disk = f"{config['group']}-data-{zone}"
    if (ROOT / "dev/disk/by-id/google-tunestack-data").exists():
        return
    here = f"{COMPUTE}/compute/v1/projects/{config['project']}/zones/{zone}"
    body = {"source": f"projects/{config['project']}/zones/{zone}/disks/{disk}", "deviceName": "tunestack-data"}
    headers = {**authorised(), "Content-Type": "application/json"}
    instance = metadata("instance/name")
    # The machine before this one may still hold it while it goes down.
    for _ in range(40):
        try:
            call(f"{here}/instances/{instance}/attachDisk", "POST", json.dumps(body).encode(), headers)
            break
        except Failure as error:
            if "RESOURCE_IN_USE" not in str(error):
                raise
            time.sleep(5)
    for _ in range(60):
        if (ROOT / "dev/disk/by-id/google-tunestack-data").exists():
            return
        time.sleep(2)
    raise Failure(f"the disk {disk} did not appear within two minutes of being attached")


# --- secrets and plan ----------------------------------------------------------------------------------------------


def fetch_secrets(config: dict[str, Any]) -> None:
    """Every secret of the stack that there is, as a file in memory that only the containers' user can read."""
    folder = RUN / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    for name in config["secrets"]:
        secret = f"projects/{config['project']}/secrets/{config['group']}-{name}/versions/latest:access"
        try:
            answer = json.loads(call(f"{SECRET_MANAGER}/v1/{secret}", headers=authorised()))
        except FileNotFoundError:
            continue
        content = base64.b64decode(answer["payload"]["data"])
        write_aside(folder / name, content, 0o400, CONTAINER_USER)


def fetch_inputs(config: dict[str, Any]) -> None:
    """Data, model and template that came from the machine on which the stack was brought up, where they changed."""
    known_file = DATA / "inputs.json"
    known: dict[str, str] = json.loads(known_file.read_text()) if known_file.exists() else {}
    page = ""
    while True:
        query = urllib.parse.urlencode({"prefix": "inputs/", "pageToken": page})
        listed = json.loads(call(f"{STORAGE}/storage/v1/b/{config['bucket']}/o?{query}", headers=authorised()))
        for item in listed.get("items", []):
            path = DATA / item["name"]
            if known.get(item["name"]) == item["generation"] and path.exists():
                continue
            download(f"{object_url(config['bucket'], item['name'])}?alt=media", path)
            known[item["name"]] = item["generation"]
        page = listed.get("nextPageToken", "")
        if page == "":
            break
    write_aside(known_file, json.dumps(known).encode())


def download(url: str, path: Path) -> None:
    """A model's file may be larger than the memory, so it goes straight to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    request = urllib.request.Request(url, headers=authorised())
    with urllib.request.urlopen(request, timeout=60) as answer, aside.open("wb") as file:
        while chunk := answer.read(1 << 20):
            file.write(chunk)
    aside.rename(path)


def docker(*arguments: str, stdin: str | None = None) -> str:
    environment = {**os.environ, "DOCKER_CONFIG": str(RUN / "docker")}
    done = subprocess.run(
        ["docker", *arguments], input=stdin, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode != 0:
        raise Failure(f"docker {arguments[0]}: {done.stderr.strip()[-500:]}")
    return done.stdout


def log_in(config: dict[str, Any]) -> None:
    token = authorised()["Authorization"].removeprefix("Bearer ")
    registry = f"{config['region']}-docker.pkg.dev"
    docker("login", "--username", "oauth2accesstoken", "--password-stdin", registry, stdin=token)


def found_run(name: str) -> dict[str, Any] | None:
    """State and specification of the run's container; None where there is none."""
    listed = docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.service={name}").split()
    if not listed:
        return None
    seen = json.loads(docker("inspect", listed[0]))[0]
    return {"state": seen["State"], "specification": seen["Config"]["Labels"].get(LABEL)}


def services_to_start(plan: dict[str, Any], found: dict[str, Any] | None, ended: str | None) -> tuple[list[str], str]:
    """Which services `up` is about, and what to say. A run that has ended stays ended; one in progress goes on."""
    names = sorted(plan["services"])
    extension = plan.get("x-tunestack", {})
    run = extension.get("run")
    if run is None:
        return names, "the services are up"
    wanted = plan["services"][run]["labels"][LABEL]
    others = [name for name in names if name != run]
    if wanted == ended:
        return others, "the services are up; the run has ended"
    if found is not None and found["state"]["Running"]:
        if found["specification"] == wanted:
            return others, "the services are up; the run goes on"
        if not extension.get("replaceRunning", False):
            return others, "another run is in progress and was not replaced: npm run train-stop first"
    return names, "the services are up; the run is starting"


def apply_plan(config: dict[str, Any]) -> None:
    fetch_secrets(config)
    fetch_inputs(config)
    content = call(f"{object_url(config['bucket'], 'plan/compose.yaml')}?alt=media", headers=authorised())
    write_aside(COMPOSE, content)
    log_in(config)
    plan = json.loads(docker("compose", "--file", str(COMPOSE), "config", "--format", "json"))
    for volume in plan.get("volumes", {}).values():
        Path(volume["driver_opts"]["device"]).mkdir(parents=True, exist_ok=True)
    run = plan.get("x-tunestack", {}).get("run")
    found = None if run is None else found_run(run)
    names, message = services_to_start(plan, found, ended_run())
    if names:
        docker("compose", "--file", str(COMPOSE), "up", "--detach", "--remove-orphans", *names)
    status(config, "up", message)


def ended_run() -> str | None:
    file = DATA / "ended-run"
    return file.read_text() if file.exists() else None


def note_ended_run(stopping: threading.Event) -> None:
    """A run that ended well is noted on the data disk, so that it is not started again on the next VM."""
    found = found_run("qlora-training")
    # A run that the VM's own end stopped goes on on the next one.
    if stopping.is_set() or found is None:
        return
    if found["state"]["Running"] or found["state"]["ExitCode"] not in ENDED_WELL:
        return
    if found["state"]["Status"] == "exited" and found["specification"] != ended_run():
        write_aside(DATA / "ended-run", str(found["specification"]).encode())


# --- entry points --------------------------------------------------------------------------------------------------


def serve(config: dict[str, Any]) -> None:
    """Applies the plan whenever it changes, and watches the clock and the GPU until the VM goes down."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    applied = None
    idleness = Idleness()
    while not stopping.is_set():
        try:
            seen = plan_generation(config)
            if seen != applied:
                check_lease(config)
                apply_plan(config)
                applied = seen
            check_lease(config)
            note_ended_run(stopping)
            if idleness.seconds() >= config["idleShutdownSeconds"]:
                take_down(config, "no training step and no work of the GPU for the time of gcp.idleShutdown")
        except (Failure, FileNotFoundError, OSError) as error:
            status(config, "failed", str(error))
        stopping.wait(POLL_SECONDS)


def main(arguments: list[str]) -> None:
    config = configuration()
    match arguments:
        case ["status", stage, message]:
            status(config, stage, message)
        case ["check-lease"]:
            check_lease(config)
        case ["attach-disk"]:
            attach_disk(config)
        case ["serve"]:
            serve(config)
        case _:
            raise SystemExit("usage: agent.py status STAGE MESSAGE | check-lease | attach-disk | serve")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Failure as error:
        raise SystemExit(f"tunestack: {error}") from None
