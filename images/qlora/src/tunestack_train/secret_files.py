"""Secrets: files that are mounted into the container, or the environment variables that their libraries know."""

import os
from pathlib import Path
from typing import Final

_FOLDER: Final = Path("/run/secrets")


def read_secret(name: str, variable: str) -> str | None:
    """The secret `name` (file of that name), else the environment `variable`; None when neither is set."""
    try:
        text = (_FOLDER / name).read_text(encoding="utf-8").strip()
    except OSError:
        text = ""
    return text or os.environ.get(variable, "").strip() or None
