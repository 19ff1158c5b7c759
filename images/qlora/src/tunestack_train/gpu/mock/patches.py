"""Replacing attributes of modules and classes so that all of them come back."""

from __future__ import annotations

from typing import Any

_ABSENT = object()


class Patches:
    """Keeps what was there before; `undo` puts it back, last first."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, value: Any) -> Any:
        """Sets `owner.name` and returns what `owner` itself had there, or else what it inherits."""
        inherited = getattr(owner, name, None)
        self._before.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)
        return inherited

    def undo(self) -> None:
        while self._before:
            owner, name, value = self._before.pop()
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
