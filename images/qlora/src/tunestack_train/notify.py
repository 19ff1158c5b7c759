"""Word to people when a run or an experiment ends: one message to a webhook that takes Slack's form.

Standard library only: the experiment runner uses it too. A webhook that fails never fails what it reports on: it is
tried a few times, and then that is said.
"""

import json
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tunestack_train.secret_files import read_secret

_WAITS: Final = (1.0, 4.0, 15.0)
_ANSWER_SECONDS: Final = 10.0
_LONGEST_TEXT: Final = 3000
_MOST_WAITING: Final = 100

Say = Callable[[str], None]


@dataclass(frozen=True)
class Word:
    """What is told: what ended, how, after how long, and where to look."""

    title: str
    good: bool
    seconds: float | None = None
    details: str = ""
    link: str | None = None

    def text(self) -> str:
        """In Slack's markup, whose own characters in the text are escaped."""
        parts = [f"{'✅' if self.good else '❌'} *{_escaped(self.title)}*"]
        if self.seconds is not None:
            parts.append(f"after {_duration(self.seconds)}")
        first = " ".join(parts)
        lines = [first, *([_escaped(self.details)] if self.details else []), *([f"<{self.link}>"] if self.link else [])]
        return "\n".join(lines)[:_LONGEST_TEXT]

    def plain(self) -> str:
        """Without markup: what follows the title."""
        after = [f"after {_duration(self.seconds)}"] if self.seconds is not None else []
        return "; ".join([*after, *([self.details] if self.details else []), *([self.link] if self.link else [])])


def webhook_url(secrets: Path | None = None) -> str | None:
    """The address: secret webhook-url, else TUNESTACK_WEBHOOK_URL. None where nobody is to be told."""
    if secrets is not None:
        file = secrets / "webhook-url"
        if file.is_file():
            return file.read_text(encoding="utf-8").strip() or None
    return read_secret("webhook-url", "TUNESTACK_WEBHOOK_URL")


def send(url: str, word: Word, say: Say, waits: tuple[float, ...] = _WAITS) -> bool:
    """Tells it; whether it has arrived. Tries again after each of `waits` seconds, but not what is refused for good."""
    if re.match(r"https?://", url) is None:
        say("the webhook is told nothing: its address begins with neither https:// nor http://")
        return False
    body = json.dumps({"text": word.text()}).encode()
    reason = ""
    for wait in (*waits, None):
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - see above
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS):  # noqa: S310
                return True
        except urllib.error.HTTPError as error:
            reason = f"it answered {error.code}"
            if error.code < 500 and error.code not in {408, 429}:
                break
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if wait is not None:
            time.sleep(wait)
    # Whoever has the address can post to it, so it is not shown.
    say(f"the webhook was not told of «{word.title}»: {reason}. Check the secret webhook-url")
    return False


class Messenger:
    """Tells from a thread, so that nobody waits for a webhook. What is more than a hundred words behind is dropped."""

    def __init__(self, url: Callable[[], str | None], say: Say, waits: tuple[float, ...] = _WAITS) -> None:
        self._url = url
        self._say = say
        self._waits = waits
        self._waiting: queue.Queue[Word | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name="webhook", daemon=True)
        self._thread.start()

    def tell(self, word: Word) -> None:
        try:
            self._waiting.put_nowait(word)
        except queue.Full:
            self._say(f"the webhook is not told of «{word.title}»: too much is waiting")

    def close(self, seconds: float) -> None:
        """Waits until all is told, at most that long."""
        try:
            self._waiting.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _work(self) -> None:
        while (word := self._waiting.get()) is not None:
            url = self._url()
            if url is not None:
                send(url, word, self._say, self._waits)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
