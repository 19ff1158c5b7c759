"""What containers read beside their volumes: secrets, in memory, and files that came from another machine."""

import base64
import json
from typing import Any

from cloud import SECRETS, DeniedError, authorised, call, download, listed
from machine import CONTAINER_USER, DATA, RUN, AgentError, write_aside

INPUTS = "inputs/"


def fetch_secrets(config: dict[str, Any]) -> None:
    """Every secret of the stack that there is, as a file in memory that only the containers' user can read.

    Raises AgentError with all those that the VM's account may not read.
    """
    folder = RUN / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    denied: list[str] = []
    for name in config["secrets"]:
        secret = f"{config['group']}-{name}"
        version = f"projects/{config['project']}/secrets/{secret}/versions/latest:access"
        try:
            answer = json.loads(call(f"{SECRETS}/v1/{version}", headers=authorised()))
        except FileNotFoundError:
            # Not every stack sets every secret; one that was taken away is not used any more.
            (folder / name).unlink(missing_ok=True)
            continue
        except DeniedError:
            denied.append(secret)
            continue
        write_aside(folder / name, base64.b64decode(answer["payload"]["data"]), 0o400, CONTAINER_USER)
    if denied:
        raise AgentError(
            f"the VM's account may not read {', '.join(denied)} in Secret Manager: bring the stack up again "
            "(npx pulumi up), which grants it, and see whether somebody took the grant away"
        )


def fetch_inputs(config: dict[str, Any]) -> None:
    """Data, model and template that came from the machine on which the stack was brought up, where they changed."""
    known_file = DATA / "inputs.json"
    known: dict[str, str] = json.loads(known_file.read_text()) if known_file.exists() else {}
    present: dict[str, str] = {}
    for item in listed(config["bucket"], INPUTS):
        name, generation = item["name"], item["generation"]
        if known.get(name) != generation or not (DATA / name).exists():
            download(config["bucket"], item, DATA / name)
        present[name] = generation
    # A file that is no longer part of a folder of data must not be trained on.
    for name in known.keys() - present.keys():
        (DATA / name).unlink(missing_ok=True)
    write_aside(known_file, json.dumps(present).encode())
