"""The command `tunestack-train`: what a person types, and what they are told when it cannot be done."""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from tunestack_train.data.load import TrainingData, load
from tunestack_train.device import set_up_libraries
from tunestack_train.errors import DataError, ModelUnavailableError, StopRequested, TunestackError
from tunestack_train.presets import PRESETS, REHEARSAL_MODEL, Value
from tunestack_train.progress import Console
from tunestack_train.secret_files import read_secret
from tunestack_train.settings import HUB_PREFIX, SETTINGS, Layer, Resolved, SettingsProblems, parse_assignments, resolve
from tunestack_train.stop import StopSignal

_SETTINGS_EXIT_CODE = 2
_EXIT_CODES = (
    "exit codes: 0 done, 1 a defect of tunestack, 2 settings, 3 data, 4 out of memory, 5 the model cannot be had, "
    "6 disk full, 75 stopped on request with a checkpoint saved"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. Nothing that a person can mend ends in a stack trace."""
    parser = _parser()
    options = parser.parse_args(arguments)
    set_up_libraries(wandb=read_secret("wandb-api-key", "WANDB_API_KEY") is not None)
    out = sys.stderr if options.json and not options.dry_run else sys.stdout
    try:
        return _dry_run(options) if options.dry_run else _run(options, out)
    except SettingsProblems as error:
        return _tell_problems(error, as_json=options.json)
    except TunestackError as error:
        return _tell_error(error, as_json=options.json)
    except BrokenPipeError:
        # Whoever read the output has gone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # the last resort: a defect, shown whole
        traceback.print_exc()
        print("tunestack-train: this is a defect of tunestack; please report it with the lines above", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tunestack-train", description=__doc__, epilog=_EXIT_CODES, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    listed = "\n".join(f"  {key:28} {setting.meaning} ({setting.allowed})" for key, setting in SETTINGS.items())
    run = commands.add_parser(
        "run",
        help="train, or go on with a run of that name",
        description="Trains a run, or goes on with it from its newest complete checkpoint.",
        epilog=f"settings for --set:\n{listed}\n\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    run.add_argument("--name", required=True, help="name of the run")
    run.add_argument("--preset", help=f"{', '.join(PRESETS)}; without one, give --model")
    run.add_argument("--model", help="Hugging Face id or folder of the base model")
    run.add_argument("--data", help=f"JSONL, JSON, CSV or Parquet file, a folder of them, or {HUB_PREFIX}ID")
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting; may be repeated")
    run.add_argument("--dry-run", action="store_true", help="check settings, data and model, and train nothing")
    run.add_argument("--json", action="store_true", help="report as one JSON object on standard output")
    return parser


def _resolve(options: argparse.Namespace) -> Resolved:
    given: dict[str, Value] = {
        key: getattr(options, key) for key in ("model", "data") if getattr(options, key) is not None
    }
    layers = [Layer("command line", given), Layer("--set", parse_assignments(options.set))]
    return resolve(options.name, options.preset, layers)


def _run(options: argparse.Namespace, out: TextIO) -> int:
    from tunestack_train.run import Folders, Run

    stop = StopSignal()
    stop.install()
    resolved = _resolve(options)
    folders = Folders(
        Path(os.environ.get("TUNESTACK_CHECKPOINTS_DIR", "/checkpoints")),
        Path(os.environ.get("TUNESTACK_LOGS_DIR", "/logs")),
    )
    console = Console(out)
    finished = Run(resolved, folders, stop, console).execute()
    if options.json:
        print(
            json.dumps(
                {
                    "run": resolved.config.name,
                    "trained": finished.trained,
                    "steps": finished.steps,
                    "first_loss": finished.first_loss,
                    "last_loss": finished.last_loss,
                    "adapter": str(finished.adapter),
                }
            )
        )
        return 0
    losses = (
        f", loss {finished.first_loss:.4f} → {finished.last_loss:.4f}"
        if finished.first_loss is not None and finished.last_loss is not None
        else ""
    )
    done = "finished" if finished.trained else "was finished before, nothing to do"
    console.say(f"{resolved.config.name} {done}: {finished.steps} steps{losses}; adapter: {finished.adapter}")
    return 0


def _dry_run(options: argparse.Namespace) -> int:
    resolved = _resolve(options)
    config = resolved.config
    model = _model_state(config.model, config.model_revision)
    data = None if config.data.startswith(HUB_PREFIX) else load(config.data, config.data_format)
    if options.json:
        report = {
            "config": config.as_dict(),
            "sources": dict(resolved.sources),
            "data": None if data is None else data.summary(),
            "model": model,
        }
        print(json.dumps(report, indent=1))
        return 0
    for key, value in config.as_dict().items():
        print(f"{key:28} {value!s:40} {resolved.sources[key]}")
    print(f"\nmodel: {config.model}: {model}")
    print(_describe_data(data, config.data))
    return 0


def _model_state(model: str, revision: str) -> str:
    from tunestack_train.model import cached_model, gated_error, needs_token

    if model == REHEARSAL_MODEL:
        return "made on the spot"
    if Path(model).expanduser().is_dir():
        return "a folder here"
    if model.startswith(("/", ".", "~")):
        raise ModelUnavailableError(f"there is no folder {model}", "give an existing folder, or an id of the hub")
    if cached_model(model, revision) is not None:
        return "in the cache"
    if needs_token(model) and read_secret("hf-token", "HF_TOKEN") is None:
        raise gated_error(model, None)
    return "to be downloaded from the Hugging Face hub"


def _describe_data(data: TrainingData | None, source: str) -> str:
    if data is None:
        return f"data: {source}, to be downloaded from the Hugging Face hub"
    return (
        f"data: {len(data.examples)} rows of {data.data_format} in {', '.join(data.files)} (sha256 {data.sha256[:12]})"
    )


def _tell_problems(error: SettingsProblems, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"problems": [problem.as_dict() for problem in error.problems]}))
    count = "a problem" if len(error.problems) == 1 else f"{len(error.problems)} problems"
    lines = "\n".join(f"  {problem}" for problem in error.problems)
    print(f"tunestack-train: {count} in the settings\n{lines}", file=sys.stderr)
    return _SETTINGS_EXIT_CODE


def _tell_error(error: TunestackError, *, as_json: bool) -> int:
    if as_json:
        failure = {"message": error.message, "remedy": error.remedy, "exit_code": error.exit_code}
        print(json.dumps({"error": failure}))
    prefix = "" if isinstance(error, StopRequested) else "error: "
    kind = "data" if isinstance(error, DataError) else ""
    print(f"tunestack-train: {kind}{' ' if kind else ''}{prefix}{error.message}\n  {error.remedy}", file=sys.stderr)
    return error.exit_code
