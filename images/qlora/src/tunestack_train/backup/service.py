"""`serve`: snapshots and drills at their intervals, and errors that are told and outlived. `once`: a turn of it."""

import threading
import time
from collections.abc import Callable

from tunestack_train.backup.aside import remove_leftovers
from tunestack_train.backup.contents import Survey
from tunestack_train.backup.errors import BusyError, NothingThereError, RepositoryError, StoppedError
from tunestack_train.backup.locks import using
from tunestack_train.backup.repository import open_repository
from tunestack_train.backup.restic import Restic
from tunestack_train.backup.restoring import DRILL_PREFIX, drill
from tunestack_train.backup.settings import Settings
from tunestack_train.backup.snapshot import Taken, back_up
from tunestack_train.backup.status import StatusFile, describe, iso, iso_now, seconds
from tunestack_train.errors import SettingsError, TunestackError
from tunestack_train.units import show_duration, show_size

_POLL_SECONDS = 1.0
_LOOK_SECONDS = 5.0
_HEARTBEAT_SECONDS = 30.0
_RETRY_SECONDS = 300.0
_RETRY_BUSY_SECONDS = 60.0

Say = Callable[[str], None]


class Service:
    """Runs until `stopping` is set."""

    def __init__(self, settings: Settings, status: StatusFile, stopping: threading.Event, say: Say) -> None:
        self._settings = settings
        self._status = status
        self._stopping = stopping
        self._say = say
        self._survey = Survey(settings.folders)
        self._snapshot_at = 0.0
        self._drill_retry_at = 0.0
        self._told = ""

    def run(self) -> None:
        """Raises SettingsError or RepositoryError if the repository cannot be used from the start."""
        self._begin()
        beat = time.monotonic()
        while not self._stopping.is_set():
            if time.time() >= self._snapshot_at:
                self._attempt(self._snapshot)
            # Not «else»: snapshots that take longer than their interval must not keep drills from ever running.
            if self._drill_is_due() and not self._stopping.is_set():
                self._attempt(self._drill)
            if time.monotonic() - beat >= _HEARTBEAT_SECONDS:
                beat = time.monotonic()
                self._status.update()
            self._stopping.wait(_POLL_SECONDS)
        self._status.update(state="stopped", next_at=None, next_drill_at=None)
        self._say("stopped")

    def once(self, *, practise: bool) -> None:
        """One snapshot, or one drill, where a scheduler keeps the times. There may be nothing to save or practise yet.

        Raises TunestackError after it is in the status file.
        """
        settings = self._settings
        self._status.update(
            repository=settings.shown_repository,
            interval_seconds=settings.interval,
            drill_interval_seconds=settings.drill_interval,
        )
        try:
            if practise:
                self._drill()
            else:
                self._snapshot()
        except StoppedError:
            raise
        except TunestackError as error:
            self._status.update(state="error", error=describe(error))
            raise

    def _begin(self) -> None:
        settings = self._settings
        self._status.update(
            state="starting",
            repository=settings.shown_repository,
            started_at=iso_now(),
            interval_seconds=settings.interval,
            drill_interval_seconds=settings.drill_interval,
            error=None,
        )
        removed = remove_leftovers(settings.backup, DRILL_PREFIX)
        if removed:
            self._say(f"removed what {len(removed)} interrupted drill(s) left")
        every = f"every {show_duration(settings.interval)}, a drill every {show_duration(settings.drill_interval)}"
        self._say(f"snapshots to {settings.shown_repository} {every}")
        try:
            with using(settings.backup / ".locks", self._stopping.is_set, writer=True, wait=0) as use:
                open_repository(
                    Restic(settings, use.descriptors, self._stopping.is_set, self._say), create=True, try_password=True
                )
        except (SettingsError, RepositoryError) as error:
            # Nobody but a person can mend these.
            self._status.update(state="error", error=describe(error))
            raise
        except StoppedError:
            return
        except TunestackError as error:
            self._tell(error, 0)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
            self._told = ""
        except StoppedError:
            return
        except TunestackError as error:
            delay = _RETRY_BUSY_SECONDS if isinstance(error, BusyError) else _RETRY_SECONDS
            delay = min(delay, self._settings.interval)
            if action == self._drill:
                self._drill_retry_at = time.time() + self._settings.interval
            else:
                self._snapshot_at = time.time() + delay
            self._tell(error, delay)

    def _tell(self, error: TunestackError, delay: float) -> None:
        self._status.update(state="error", error=describe(error), next_at=iso(time.time() + delay))
        if error.message != self._told:
            self._told = error.message
            self._say(f"{error.message}. {error.remedy[:1].upper()}{error.remedy[1:]}")

    def _snapshot(self) -> None:
        settings = self._settings
        if not self._survey.look().worthwhile:
            self._snapshot_at = time.time() + min(_LOOK_SECONDS, settings.interval)
            if self._status.read()["state"] != "waiting":
                self._say(f"nothing to back up yet: no complete checkpoint in {settings.folders['checkpoints']}")
                self._status.update(state="waiting", error=None)
            return
        with using(settings.backup / ".locks", self._stopping.is_set, writer=True, wait=settings.interval) as use:
            restic = Restic(settings, use.descriptors, self._stopping.is_set, self._say)
            taken = back_up(restic, use, self._survey, self._status, forget=True)
        self._snapshot_at = time.time() + settings.interval
        self._status.update(next_at=iso(self._snapshot_at), next_drill_at=iso(max(time.time(), self._next_drill())))
        self._say(summary(taken))

    def _drill(self) -> None:
        settings = self._settings
        with using(settings.backup / ".locks", self._stopping.is_set, writer=False, wait=_RETRY_BUSY_SECONDS) as use:
            self._status.update(state="drill")
            try:
                result = drill(Restic(settings, use.descriptors, self._stopping.is_set, self._say), self._status)
            except NothingThereError:
                self._drill_retry_at = time.time() + settings.interval
                return
            finally:
                self._status.update(state="idle")
        self._status.update(next_drill_at=iso(max(time.time(), self._next_drill())), error=None)
        self._say(
            f"drill: snapshot {result['snapshot_id']} restored aside, {result['verified_manifests']} manifests verified"
        )

    def _drill_is_due(self) -> bool:
        known = self._status.read()["last_snapshot_id"] is not None
        return known and time.time() >= max(self._next_drill(), self._drill_retry_at)

    def _next_drill(self) -> float:
        """When the next drill is due; 0, which is at once, if there was none or the last one failed."""
        last = self._status.read()["last_drill"]
        if not isinstance(last, dict) or not last.get("ok"):
            return 0.0
        return (seconds(last.get("at")) or 0.0) + self._settings.drill_interval


def summary(taken: Taken) -> str:
    """One line about a snapshot."""
    parts = [f"snapshot {taken.snapshot_id}: {taken.complete} checkpoints and adapters, {show_size(taken.size)}"]
    parts.append(f"{show_size(taken.added)} of it new")
    if taken.excluded:
        first = taken.excluded[0]
        more = f" and {len(taken.excluded) - 1} more" if len(taken.excluded) > 1 else ""
        parts.append(f"left out {first.path} ({first.reason}){more}")
    parts += taken.warnings[:3]
    return "; ".join(parts)
