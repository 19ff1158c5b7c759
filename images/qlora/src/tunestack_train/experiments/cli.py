"""`python -m tunestack_train.experiments`: the runner, and checks of the file, of access and of a runner's health."""

import argparse
import fcntl
import json
import os
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tunestack_train.errors import SettingsError, TunestackError
from tunestack_train.experiments.cluster.api import SERVICE_ACCOUNT
from tunestack_train.experiments.format import FILE, check
from tunestack_train.experiments.git import Git
from tunestack_train.experiments.report import STATUS
from tunestack_train.experiments.service import open_access, serve
from tunestack_train.experiments.settings import DEFAULT_BRANCH, Settings
from tunestack_train.units import parse_duration, parse_size, show_duration

_PROBLEMS_EXIT_CODE: Final = 3
_STALE_POLLS: Final = 4
_STALE_AT_LEAST: Final = 180.0
_EXIT_CODES: Final = (
    "exit codes: 0 done, 1 a defect of tunestack, 2 settings, 3 experiments.json has problems, 6 disk full, "
    "7 the git server cannot be used"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. Nothing that a person can mend ends in a stack trace."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.do(options)
    except TunestackError as error:
        if getattr(options, "json", False):
            failure = {"message": error.message, "remedy": error.remedy, "exit_code": error.exit_code}
            print(json.dumps({"error": failure}))
        print(f"experiments: {error.message}\n  {error.remedy}", file=sys.stderr)
        return error.exit_code
    except Exception:  # the last resort: a defect, shown whole
        traceback.print_exc()
        print("experiments: this is a defect of tunestack; please report it with the lines above", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tunestack_train.experiments", description=__doc__, epilog=_EXIT_CODES, allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="take experiments from the branch and run them", allow_abbrev=False)
    _add_access(run)
    run.add_argument("--outputs", type=Path, required=True, help="folder for results, one folder an experiment")
    run.add_argument("--name", help="name of this runner; default: the host's, with some digits that are its own")
    run.add_argument("--poll", type=_duration, default="60s", help="time between looks at the branch (%(default)s)")
    run.add_argument("--lease", type=_duration, default="5m", help="silence after which a claim is void (%(default)s)")
    run.add_argument("--grace", type=_duration, default="30s", help="time between TERM and KILL (%(default)s)")
    run.add_argument("--gpus", default="auto", help="auto, none, or a list as 0,1 (%(default)s)")
    run.add_argument("--cpu-places", type=int, default=1, help="experiments at a time that take no GPU (%(default)s)")
    run.add_argument("--gpus-on-cpu", action="store_true", help="without a GPU, run what asks for one on the CPU")
    run.add_argument("--once", action="store_true", help="run what there is, then end")
    run.add_argument("--log-size", type=_size, default="64MiB", help="size of execution.log (%(default)s)")
    run.add_argument("--least-free", type=_size, default="1GiB", help="free disk space to start with (%(default)s)")
    run.add_argument("--job-template", type=Path, help="run experiments as jobs of this cluster, made from this file")
    run.add_argument("--job-poll", type=_duration, default="5s", help="time between looks at jobs (%(default)s)")
    run.add_argument("--service-account", type=Path, default=SERVICE_ACCOUNT, help="token for them (%(default)s)")
    run.add_argument("--link", help="address that messages point to; default: the repository's page")
    run.set_defaults(do=_run)
    access = commands.add_parser("access", help="try whether the repository can be read and written")
    _add_access(access)
    access.set_defaults(do=_check_access)
    validate = commands.add_parser("validate", help="tell all that is wrong with an experiments.json")
    validate.add_argument("file", type=Path, nargs="?", default=Path(FILE))
    validate.add_argument("--json", action="store_true", help="report as one JSON object")
    validate.set_defaults(do=_validate)
    health = commands.add_parser("health", help="whether the runner of a state folder does its work")
    health.add_argument("--state", type=Path, required=True)
    health.set_defaults(do=_health)
    return parser


def _add_access(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repository", required=True, help="address or path of the git repository, without a password")
    parser.add_argument("--branch", default=DEFAULT_BRANCH, help="branch with experiments.json (%(default)s)")
    parser.add_argument("--state", type=Path, required=True, help="folder of the runner's own, kept between starts")
    parser.add_argument("--user", default="x-access-token", help="user that goes with the token (%(default)s)")
    parser.add_argument("--secrets", type=Path, default=Path("/run/secrets"), help="folder of secrets (%(default)s)")


def _duration(text: str) -> float:
    return _parsed(parse_duration, text)


def _size(text: str) -> int:
    return int(_parsed(parse_size, text))


def _parsed(parse: Callable[[str], float], text: str) -> float:
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _run(options: argparse.Namespace) -> int:
    settings = Settings(
        url=options.repository,
        state=options.state.absolute(),
        outputs=options.outputs.absolute(),
        branch=options.branch,
        name=options.name,
        poll=options.poll,
        lease=options.lease,
        grace=options.grace,
        gpus=options.gpus,
        cpu_places=options.cpu_places,
        gpus_on_cpu=options.gpus_on_cpu,
        once=options.once,
        most_log_bytes=options.log_size,
        least_free_bytes=options.least_free,
        secrets=options.secrets,
        user=options.user,
        image_digest=os.environ.get("TUNESTACK_IMAGE_DIGEST"),
        link=options.link,
        job_template=options.job_template,
        job_poll=options.job_poll,
        service_account=options.service_account,
    )
    _make_folders(settings)
    with (settings.state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"another runner works in {settings.state}", "stop that one, or give this one a --state of its own"
            ) from None
        serve(settings)
    return 0


def _make_folders(settings: Settings) -> None:
    for folder in (settings.state, settings.outputs, settings.worktrees):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"{folder} cannot be made: {error.strerror}", "give a folder that can be written"
            ) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise SettingsError(f"{folder} cannot be written by user {os.getuid()}", "give the folder to that user")


def _check_access(options: argparse.Namespace) -> int:
    settings = Settings(
        url=options.repository,
        state=options.state.absolute(),
        outputs=options.state.absolute(),
        branch=options.branch,
        secrets=options.secrets,
        user=options.user,
    )
    _make_folders(settings)
    access, redactor = open_access(settings)
    git = Git(settings.state / "repository.git", access, settings.branch, redactor)
    git.prepare()
    refs = git.observe()
    git.try_to_write(f"access-{secrets.token_hex(4)}")
    branch = f"at {refs.branch[:12]}" if refs.branch else "not there yet"
    print(f"{settings.url} can be read and written; branch {settings.branch}: {branch}")
    return 0


def _validate(options: argparse.Namespace) -> int:
    try:
        text = options.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise SettingsError(
            f"{options.file} cannot be read: {reason}", "give the path of an experiments.json"
        ) from None
    checked = check(text)
    if options.json:
        print(json.dumps({"problems": [problem.as_dict() for problem in checked.problems]}))
    for problem in checked.problems:
        print(f"{options.file.parent / str(problem)}" if options.file.name == FILE else str(problem), file=sys.stderr)
    if checked.problems:
        return _PROBLEMS_EXIT_CODE
    if not options.json:
        print(f"{options.file}: {len(checked.entries or [])} experiments, no problems")
    return 0


def _health(options: argparse.Namespace) -> int:
    """0 while the runner's status is fresh and the server has answered, or is being tried again."""
    try:
        status = json.loads((options.state / STATUS).read_text(encoding="utf-8"))
        age = time.time() - datetime.fromisoformat(status["updated_at"]).astimezone(UTC).timestamp()
        patience = max(_STALE_AT_LEAST, _STALE_POLLS * float(status["poll_seconds"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"no status of a runner in {options.state}: {error}")
        return 1
    if age > patience:
        print(f"the runner has not renewed its status for {show_duration(age)}")
        return 1
    problems = [f"{one['code']}: {one['message']}" for one in status["problems"]]
    if any(one["code"] == "access" for one in status["problems"]):
        print("; ".join(problems))
        return 1
    print("; ".join([f"{status['state']}, {len(status['running'])} running", *problems]))
    return 0
