"""`backup_status.json` in the logs volume: what train-status, the metrics and the health check know of the backup."""

import fcntl
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tunestack_train.errors import TunestackError

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
JsonObject = dict[str, JsonValue]

_EMPTY: JsonObject = {
    "schema": 1,
    "state": "starting",
    "repository": None,
    "started_at": None,
    "updated_at": None,
    "interval_seconds": None,
    "drill_interval_seconds": None,
    "last_success": None,
    "last_snapshot_id": None,
    "last_check": None,
    "last_drill": None,
    "bytes": None,
    "added_bytes": None,
    "checkpoints": None,
    "excluded": [],
    "warnings": [],
    "error": None,
    "next_at": None,
    "next_drill_at": None,
}


class StatusFile:
    """Reads and writes the file whole. What cannot be written is told once, and the backup goes on."""

    def __init__(self, path: Path, lock: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._lock = lock
        self._say = say
        self._failed = False

    def read(self) -> JsonObject:
        """All fields, with nulls where nothing is known."""
        try:
            stored = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return dict(_EMPTY)
        return {**_EMPTY, **stored} if isinstance(stored, dict) else dict(_EMPTY)

    def update(self, **changes: JsonValue) -> None:
        """Changes some fields and the time of the update."""
        fresh = self._path.with_name(f".{self._path.name}.new")
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # `now` may write at the same time as `serve`
                status = {**self.read(), **changes, "updated_at": iso_now()}
                fresh.write_text(json.dumps(status, indent=1) + "\n")
                fresh.replace(self._path)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._failed:
                self._say(f"{self._path} cannot be written: {error.strerror}")
            self._failed = True
        else:
            self._failed = False


def iso_now() -> str:
    """Now in UTC, to the second."""
    return iso(datetime.now(UTC).timestamp())


def iso(seconds: float) -> str:
    """Seconds since 1970 as UTC, to the second: `2026-11-23T09:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: JsonValue) -> float | None:
    """The time that `iso` wrote; None for what is none."""
    return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None


def describe(error: TunestackError) -> JsonObject:
    """An error as the status file and `--json` show it."""
    return {"message": error.message, "remedy": error.remedy, "exit_code": error.exit_code}
