"""The command `tunestack-train`: what a person types, and what they are told when it cannot be done."""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from tunestack_train.commands import estimate, export, rerun, run, wandb_sync
from tunestack_train.device import set_up_libraries
from tunestack_train.errors import DataError, SettingsProblems, StopRequested, TunestackError
from tunestack_train.processes import Processes
from tunestack_train.stop import Interrupted

_EXIT_CODES = (
    "exit codes: 0 done, 1 a defect of tunestack, 2 settings, 3 data, 4 out of memory, 5 the model cannot be had, "
    "6 disk full, 7 an export that drifts, 8 another process of the run was lost, "
    "75 stopped on request with a checkpoint saved"
)


def run_and_end() -> NoReturn:
    """Runs the command of this process, and ends it with the command's exit code."""
    code = main()
    Processes.from_environment().end(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. Nothing that a person can mend ends in a stack trace."""
    options = _parser().parse_args(arguments)
    set_up_libraries()
    as_json = bool(getattr(options, "json", False))
    try:
        return int(options.execute(options))
    except SettingsProblems as error:
        return _tell_problems(error, as_json=as_json)
    except TunestackError as error:
        return _tell_error(error, as_json=as_json)
    except Interrupted as request:
        return _tell_error(request.as_error(), as_json=as_json)
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
    for command in (run, estimate, rerun, export, wandb_sync):
        added = command.add_parser(commands)
        added.epilog = _EXIT_CODES if added.epilog is None else f"{added.epilog}\n\n{_EXIT_CODES}"
    return parser


def _tell_problems(error: SettingsProblems, *, as_json: bool) -> int:
    if Processes.from_environment().local_rank != 0:
        return error.exit_code  # the first process on this machine has the same settings and tells
    if as_json:
        print(json.dumps({"problems": [problem.as_dict() for problem in error.problems]}))
    count = "a problem" if len(error.problems) == 1 else f"{len(error.problems)} problems"
    lines = "\n".join(f"  {problem}" for problem in error.problems)
    print(f"tunestack-train: {count} in the settings\n{lines}", file=sys.stderr)
    return error.exit_code


def _tell_error(error: TunestackError, *, as_json: bool) -> int:
    if error.told_by_first:
        return error.exit_code
    if as_json:
        failure = {"message": error.message, "remedy": error.remedy, "exit_code": error.exit_code}
        print(json.dumps({"error": failure}))
    prefix = "" if isinstance(error, StopRequested) else "error: "
    kind = "data" if isinstance(error, DataError) else ""
    print(f"tunestack-train: {kind}{' ' if kind else ''}{prefix}{error.message}\n  {error.remedy}", file=sys.stderr)
    return error.exit_code
