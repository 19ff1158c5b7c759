"""Command line of training-backup."""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunestack_train.backup.contents import Survey
from tunestack_train.backup.errors import NothingThereError, StoppedError
from tunestack_train.backup.locks import Use, using
from tunestack_train.backup.moving import take
from tunestack_train.backup.repository import open_repository
from tunestack_train.backup.restic import Restic
from tunestack_train.backup.restoring import Request, drill, restore, restore_newer
from tunestack_train.backup.service import Service, summary
from tunestack_train.backup.settings import DEFAULT_KEEP, KEEP_KINDS, PARTS, Settings, load
from tunestack_train.backup.snapshot import back_up, list_snapshots
from tunestack_train.backup.status import JsonObject, StatusFile, describe
from tunestack_train.errors import SettingsError, TunestackError
from tunestack_train.units import parse_duration, show_size

_WAIT_SECONDS = 600.0
_EXIT_CODES = (
    "Exit codes: 0 done, 2 settings, 3 repository or password (also: what comes back is not what was saved), "
    "4 nothing to restore or back up, 5 in use by another, 6 disk full, 7 network, 8 no whole snapshot possible, "
    "130 interrupted."
)


class Program:
    """The subcommands. Each returns what `--json` prints; what people read goes through `say`."""

    def __init__(self, options: argparse.Namespace, settings: Settings) -> None:
        self._options = options
        self._settings = settings
        self._stopping = threading.Event()
        self.status = StatusFile(settings.status_file, settings.backup / ".status.lock", say_error)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())

    def run(self, command: str) -> JsonObject:
        return {
            "serve": self.serve,
            "once": self.once,
            "now": self.now,
            "list": self.list_snapshots,
            "verify": self.verify,
            "restore": self.restore,
            "take": self.take,
            "drill": self.drill,
        }[command]()

    def serve(self) -> JsonObject:
        Service(self._settings, self.status, self._stopping, say_error).run()
        return self.status.read()

    def once(self) -> JsonObject:
        Service(self._settings, self.status, self._stopping, say_error).once(practise=self._options.drill)
        return self.status.read()

    def now(self) -> JsonObject:
        survey = Survey(self._settings.folders)
        contents = survey.look()
        if not any(path.is_file() for root in contents.roots.values() for path in root.rglob("*")):
            folders = ", ".join(str(folder) for folder in self._settings.folders.values())
            raise NothingThereError(f"there is nothing to back up in {folders}", "train something first")
        within = self._options.within
        if within is not None:
            timer = threading.Timer(_duration(within), self._stopping.set)
            timer.daemon = True
            timer.start()
        with self._use(writer=True) as (restic, use):
            taken = back_up(restic, use, survey, self.status, forget=False, check=within is None)
        self._say(summary(taken))
        return taken.as_json()

    def list_snapshots(self) -> JsonObject:
        with self._use(writer=False) as (restic, _):
            open_repository(restic, create=False)
            snapshots = list_snapshots(restic)
        for snapshot in snapshots:
            self._say(
                f"{snapshot.snapshot_id}  {snapshot.time[:19].replace('T', ' ')}  {' '.join(snapshot.runs) or '-'}"
            )
        if not snapshots:
            self._say("no snapshot yet")
        return {"snapshots": [snapshot.as_json() for snapshot in snapshots]}

    def verify(self) -> JsonObject:
        with self._use(writer=True) as (restic, use):
            open_repository(restic, create=False)
            with use.alone(_WAIT_SECONDS):
                restic.run("check", *([] if self._options.quick else ["--read-data"]))
        read = "its structure" if self._options.quick else "all of its data"
        self._say(f"the repository {self._settings.shown_repository} is well: {read} was read")
        return {"ok": True, "read_data": not self._options.quick}

    def restore(self) -> JsonObject:
        options = self._options
        request = Request(options.snapshot, options.to, tuple(options.include or ()), options.run, options.force)
        with self._use(writer=False) as (restic, _):
            if options.if_newer:
                return self._restore_newer(restic)
            open_repository(restic, create=False)
            restored = restore(restic, request)
        for path in restored.restored:
            self._say(f"restored {path}")
        for path in restored.kept:
            self._say(f"kept {path} as it is (--force replaces it)")
        size = show_size(restored.size)
        self._say(f"snapshot {restored.snapshot_id}: {size}, {restored.verified_manifests} manifests verified")
        return restored.as_json()

    def _restore_newer(self, restic: Restic) -> JsonObject:
        if self._options.run is None:
            raise SettingsError("--if-newer goes by the checkpoints of one run", "name it with --run")
        restored = restore_newer(restic, self._options.run)
        if restored is None:
            self._say("nothing was restored: no snapshot holds a newer checkpoint of this run than is here")
            return {"snapshot_id": None, "restored": []}
        self._say(f"restored {', '.join(str(path) for path in restored.restored)} of snapshot {restored.snapshot_id}")
        return restored.as_json()

    def take(self) -> JsonObject:
        options = self._options
        with self._use(writer=False):
            taken = take(self._settings.folders, options.staged, options.run, force=options.force)
        for path in taken.taken:
            self._say(f"took {path}")
        return taken.as_json()

    def drill(self) -> JsonObject:
        with self._use(writer=False) as (restic, _):
            open_repository(restic, create=False)
            result = drill(restic, self.status)
        self._say(f"snapshot {result['snapshot_id']} restored aside, {result['verified_manifests']} manifests verified")
        return result

    @contextmanager
    def _use(self, *, writer: bool) -> Iterator[tuple[Restic, Use]]:
        stopped = self._stopping.is_set
        with using(self._settings.backup / ".locks", stopped, writer=writer, wait=_WAIT_SECONDS) as use:
            yield Restic(self._settings, use.descriptors, stopped, say_error), use

    def _say(self, text: str) -> None:
        if not self._options.json:
            sys.stdout.write(f"{text}\n")


def main(arguments: list[str]) -> int:
    """Runs one subcommand; its exit code is in the help."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "status":
            result = _status(options)
        else:
            result = Program(options, load(settings_environment(options))).run(options.command)
    except StoppedError as error:
        say_error(error.message)
        return error.exit_code
    except TunestackError as error:
        if options.json:
            sys.stdout.write(json.dumps({"error": describe(error)}) + "\n")
        else:
            say_error(f"{error.message}. {error.remedy[:1].upper()}{error.remedy[1:]}")
        return error.exit_code
    if options.json and options.command != "serve":
        sys.stdout.write(json.dumps(result) + "\n")
    return 0


def say_error(text: str) -> None:
    sys.stderr.write(f"training-backup: {text}\n")
    sys.stderr.flush()


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise SettingsError(f"--within: {error}", "write it as 20s") from None


def _status(options: argparse.Namespace) -> JsonObject:
    file = Path(os.environ.get("TUNESTACK_LOGS_DIR", "/logs")) / "backup_status.json"
    if not file.exists():
        raise NothingThereError(f"there is no backup yet: {file} is missing", "start training-backup, or run `now`")
    status = StatusFile(file, file, say_error).read()
    if not options.json:
        for name, value in status.items():
            sys.stdout.write(f"{name.replace('_', ' ')}: {value if isinstance(value, str) else json.dumps(value)}\n")
    return status


def settings_environment(options: argparse.Namespace) -> dict[str, str]:
    """The environment, with options in place of their variables."""
    given = {
        "TUNESTACK_BACKUP_INTERVAL": getattr(options, "interval", None),
        "TUNESTACK_BACKUP_DRILL_INTERVAL": getattr(options, "drill_interval", None),
        "TUNESTACK_BACKUP_KEEP": _keep(options),
    }
    return {**os.environ, **{name: value for name, value in given.items() if value is not None}}


def _keep(options: argparse.Namespace) -> str | None:
    """The retention of the environment, with what options change in it."""
    given = {kind: getattr(options, f"keep_{kind}", None) for kind in KEEP_KINDS}
    changed = [f"{kind}={number}" for kind, number in given.items() if number is not None]
    return ",".join([os.environ.get("TUNESTACK_BACKUP_KEEP", DEFAULT_KEEP), *changed]) if changed else None


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tunestack_train.backup",
        description="Encrypted snapshots of checkpoints, logs and GGUF files with restic.",
        epilog=_EXIT_CODES,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="take a snapshot at each interval, check it, and drill now and then")
    once = commands.add_parser("once", help="one turn of `serve`, for a scheduler that keeps the times")
    once.add_argument("--drill", action="store_true", help="a drill in place of a snapshot")
    for command in (serve, once):
        command.add_argument("--interval", help="time between snapshots, default 1h (TUNESTACK_BACKUP_INTERVAL)")
        command.add_argument(
            "--drill-interval", help="time between drills, default 24h (TUNESTACK_BACKUP_DRILL_INTERVAL)"
        )
        for kind in KEEP_KINDS:
            text = f"{kind} snapshots to keep; 0 sets no such rule (TUNESTACK_BACKUP_KEEP, default {DEFAULT_KEEP})"
            command.add_argument(f"--keep-{kind}", type=int, metavar="NUMBER", help=text)
    now = commands.add_parser("now", help="take a snapshot now, and check it; none is forgotten")
    now.add_argument("--within", help="give up after this time, and leave the check to the next snapshot")
    listing = commands.add_parser("list", help="list the snapshots")
    verify = commands.add_parser("verify", help="read the whole repository and verify it")
    verify.add_argument("--quick", action="store_true", help="its structure only")
    back = commands.add_parser("restore", help="restore a snapshot beside its place, verify it, rename it into place")
    back.add_argument("--snapshot", default="latest", help="id from `list`, default latest")
    back.add_argument(
        "--to", type=Path, help="folder that gets checkpoints/, logs/, gguf/; default: the volumes themselves"
    )
    back.add_argument("--include", choices=PARTS, action="append", help="only this part; can be given several times")
    back.add_argument("--run", help="only the run of this name")
    back.add_argument("--force", action="store_true", help="replace what is there")
    back.add_argument(
        "--if-newer",
        action="store_true",
        help="only where a snapshot holds a newer checkpoint of the run than is here; what is here is then replaced",
    )
    moved = commands.add_parser("take", help="verify a run that another stack sent, and rename it into place")
    moved.add_argument("--staged", required=True, help="name of the folder in each volume into which it was sent")
    moved.add_argument("--run", required=True, help="name of the run")
    moved.add_argument("--force", action="store_true", help="also in the place of a run that has gone further")
    practice = commands.add_parser("drill", help="prove that the newest snapshot can be restored")
    state = commands.add_parser("status", help="show the state of the backup")
    for command in (serve, once, now, listing, verify, back, moved, practice, state):
        command.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
