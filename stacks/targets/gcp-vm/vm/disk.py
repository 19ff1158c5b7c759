"""The data disk of the zone in which the VM came up."""

import json
import time
from typing import Any

from cloud import COMPUTE, authorised, call, metadata, own_zone
from machine import DISK, AgentError

# The machine before this one may still hold the disk while it goes down.
HELD_SECONDS = 200.0
APPEARS_SECONDS = 120.0
POLL_SECONDS = 2.0


def attach_disk(config: dict[str, Any]) -> None:
    """Attaches the data disk of this zone to this VM; does nothing where it is attached already."""
    if DISK.exists():
        return
    zone = own_zone()
    disk = f"{config['group']}-data-{zone}"
    here = f"{COMPUTE}/compute/v1/projects/{config['project']}/zones/{zone}"
    body = {"source": f"projects/{config['project']}/zones/{zone}/disks/{disk}", "deviceName": "tunestack-data"}
    headers = {**authorised(), "Content-Type": "application/json"}
    url = f"{here}/instances/{metadata('instance/name')}/attachDisk"
    held_until = time.monotonic() + HELD_SECONDS
    while True:
        try:
            call(url, "POST", json.dumps(body).encode(), headers)
            break
        except FileNotFoundError:
            raise AgentError(
                f"there is no disk {disk}: name {zone} in gcp.zones and bring the stack up again"
            ) from None
        except AgentError as error:
            if "RESOURCE_IN_USE" not in str(error):
                raise AgentError(f"the disk {disk} could not be attached: {error}") from None
            if time.monotonic() >= held_until:
                raise AgentError(f"another machine holds the disk {disk}: {error}") from None
        time.sleep(POLL_SECONDS)
    appears_until = time.monotonic() + APPEARS_SECONDS
    while not DISK.exists():
        if time.monotonic() >= appears_until:
            raise AgentError(f"the disk {disk} did not appear within two minutes of being attached")
        time.sleep(POLL_SECONDS)
