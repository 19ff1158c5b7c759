"""`tunestack-train run`: trains, goes on with a run, or checks everything and trains nothing."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tunestack_train.commands import dry_run
from tunestack_train.layers import ENVIRONMENT_PREFIX, assignments_layer, environment_layer, file_layer
from tunestack_train.presets import PRESETS, Value
from tunestack_train.processes import Processes
from tunestack_train.progress import Console
from tunestack_train.resolve import Layer, Resolved, resolve
from tunestack_train.settings import HUB_PREFIX, SETTINGS
from tunestack_train.stop import StopSignal

if TYPE_CHECKING:
    from tunestack_train.run import Finished, Folders


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    listed = "\n".join(f"  {key:28} {setting.meaning} ({setting.allowed})" for key, setting in SETTINGS.items())
    parser = commands.add_parser(
        "run",
        help="train, or go on with a run of that name",
        description="Trains a run, or goes on with it from its newest complete checkpoint.",
        epilog=(
            "Later wins: defaults, preset, files of --config in their order, environment "
            f"({ENVIRONMENT_PREFIX}LORA_R=8), options, --set.\n\nsettings:\n{listed}"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--name", help="name of the run")
    parser.add_argument("--preset", help=f"{', '.join(PRESETS)}; without one, give --model")
    parser.add_argument("--model", help="Hugging Face id or folder of the base model")
    parser.add_argument("--data", help=f"JSONL, JSON, CSV or Parquet file, a folder of them, or {HUB_PREFIX}ID")
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        type=Path,
        help="YAML, JSON or TOML file of settings; may be repeated, later ones win",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting; may be repeated")
    parser.add_argument("--dry-run", action="store_true", help="check settings, data and model, and train nothing")
    parser.add_argument("--json", action="store_true", help="report as one JSON object on standard output")
    parser.set_defaults(execute=execute)
    return parser


def execute(options: argparse.Namespace) -> int:
    if options.dry_run:
        return dry_run.show(_resolve(options), as_json=options.json)
    train(_resolve(options), as_json=options.json)
    return 0


def _resolve(options: argparse.Namespace) -> Resolved:
    given: dict[str, Value] = {
        key: getattr(options, key) for key in ("model", "data") if getattr(options, key) is not None
    }
    layers = [
        *(file_layer(path) for path in options.config),
        environment_layer(os.environ),
        Layer("command line", given),
        assignments_layer(options.set),
    ]
    return resolve(options.name, options.preset, layers)


def folders() -> "Folders":
    """Where this machine keeps runs, logs and caches."""
    from tunestack_train.run import Folders

    return Folders(
        Path(os.environ.get("TUNESTACK_CHECKPOINTS_DIR", "/checkpoints")),
        Path(os.environ.get("TUNESTACK_LOGS_DIR", "/logs")),
    )


def train(resolved: Resolved, *, as_json: bool) -> "Finished":
    """Trains to the end and reports: a sentence for people, or one JSON object on standard output."""
    from tunestack_train.run import Run

    stop = StopSignal()
    stop.install()
    console = Console(sys.stderr if as_json else sys.stdout)
    finished = Run(resolved, folders(), stop, console).execute()
    if not Processes.from_environment().first:
        return finished
    if as_json:
        report = {
            "run": resolved.config.name,
            "trained": finished.trained,
            "steps": finished.steps,
            "first_loss": finished.first_loss,
            "last_loss": finished.last_loss,
            "adapter": str(finished.adapter),
        }
        print(json.dumps(report))
        return finished
    losses = (
        f", loss {finished.first_loss:.4f} → {finished.last_loss:.4f}"
        if finished.first_loss is not None and finished.last_loss is not None
        else ""
    )
    done = "finished" if finished.trained else "was finished before, nothing to do"
    console.say(f"{resolved.config.name} {done}: {finished.steps} steps{losses}; adapter: {finished.adapter}")
    return finished
