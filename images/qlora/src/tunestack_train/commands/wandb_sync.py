"""`tunestack-train wandb-sync`: sends runs that were logged offline to Weights & Biases."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tunestack_train.errors import SettingsError
from tunestack_train.secret_files import read_secret


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "wandb-sync",
        help="send runs that were logged offline to Weights & Biases",
        description="Sends runs that were logged with wandb_mode=offline to the server of WANDB_BASE_URL, or wandb.ai.",
        allow_abbrev=False,
    )
    parser.add_argument("--name", help="name of the run; all runs if not given")
    parser.set_defaults(execute=execute)
    return parser


def execute(options: argparse.Namespace) -> int:
    """Returns 0 when all were sent; what was sent before is not sent again."""
    logs = Path(os.environ.get("TUNESTACK_LOGS_DIR", "/logs"))
    found = sorted(logs.glob(f"{options.name or '*'}/wandb/offline-run-*"))
    waiting = [folder for folder in found if not any(folder.glob("*.synced"))]
    if not waiting:
        print(f"nothing to send: {len(found)} runs below {logs} were logged offline, all of them are sent")
        return 0
    key = read_secret("wandb-api-key", "WANDB_API_KEY")
    if key is None:
        raise SettingsError(
            f"{len(waiting)} runs wait to be sent, and no key is given",
            "give the key as the secret wandb-api-key (or as WANDB_API_KEY)",
        )
    # The key goes by the environment: arguments can be read by whoever lists processes.
    sync = [sys.executable, "-m", "wandb", "sync", *map(str, waiting)]
    return subprocess.run(sync, env=os.environ | {"WANDB_API_KEY": key}, check=False).returncode  # noqa: S603 - ours
