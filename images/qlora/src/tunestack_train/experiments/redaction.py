"""Secrets kept out of logs, messages and results."""

import re
from collections.abc import Iterable
from typing import Final

_SHOWN: Final = "***"
_SHORTEST: Final = 6
# Credentials in an address, and tokens by their forms: GitHub, GitLab, Hugging Face, Slack's webhooks.
_FORMS: Final = re.compile(
    r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}|\bglpat-[\w-]{16,}"
    r"|\bhf_[A-Za-z0-9]{20,}|(?<=hooks\.slack\.com/services/)[\w/]+"
)


class Redactor:
    """Replaces the given secrets, and whatever has the form of one, by `***`."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: tuple[str, ...] = ()
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Learns more secrets. What is shorter than six characters would hide ordinary words, and is left alone."""
        lines = {line.strip() for secret in secrets for line in secret.splitlines()}
        known = lines.union(self._secrets)
        self._secrets = tuple(sorted((one for one in known if len(one) >= _SHORTEST), key=len, reverse=True))

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _SHOWN)
        return _FORMS.sub(_SHOWN, text)
