"""Who is told how a run ended: a webhook, and Weights & Biases where the run has a log there."""

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import datetime

from tunestack_train.errors import TunestackError
from tunestack_train.log_threads import AllLogs
from tunestack_train.notify import Say, Word, send, webhook_url
from tunestack_train.status import Status, now
from tunestack_train.stop import Interrupted, StopSignal

_WAITS = (1.0, 4.0)


def tell_webhook(status: Status, say: Say) -> None:
    """Tells of a run that is completed or has failed. Never raises; takes less than a minute where nobody answers.

    Within an experiment the runner tells, once for both.
    """
    url = webhook_url()
    if url is None or status.state not in {"completed", "failed"} or "EXPERIMENT_NAME" in os.environ:
        return
    try:
        send(url, _word(status, status.state == "completed"), say, _WAITS)
    except Exception as error:  # word of a run must never be what fails it
        say(f"note: the webhook was not told: {error}")


@contextlib.contextmanager
def alerts(logs: AllLogs, status: Callable[[], Status], stop: StopSignal) -> Iterator[None]:
    """Sends an alert to Weights & Biases, while its log is still open, when what is done within ends or fails."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        raise
    except BaseException as error:
        message = error.message if isinstance(error, TunestackError) else f"{type(error).__name__}: {error}"
        logs.tell(_word(status(), good=False, reason=message))
        raise
    if not stop.requested:
        logs.tell(_word(status(), good=True))


def _word(status: Status, good: bool, reason: str | None = None) -> Word:  # noqa: FBT001 - reads well with its name
    seconds = (datetime.fromisoformat(now()) - datetime.fromisoformat(status.started_at)).total_seconds()
    details = [f"step {status.step}"] if status.step else []
    if status.loss is not None:
        start = f"{status.first_loss:.4f} → " if status.first_loss is not None else ""
        details.append(f"loss {start}{status.loss:.4f}")
    because = reason or (status.error.message if status.error else None)
    details += [because] if because else []
    return Word(f"run {status.run}: {'completed' if good else 'failed'}", good, seconds, "; ".join(details))
