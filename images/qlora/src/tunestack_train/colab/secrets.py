"""Tokens from Colab's secrets: the key at the left edge of a notebook."""

import os
import sys
from collections.abc import Mapping


def read_secret(name: str) -> str | None:
    """The secret of that name; None where there is none, or the notebook may not read it."""
    from google.colab import userdata

    try:
        value = userdata.get(name)
    except (userdata.SecretNotFoundError, userdata.NotebookAccessError):
        return None
    return value.strip() or None if isinstance(value, str) else None


def take_secrets(names: Mapping[str, str]) -> None:
    """Puts secrets into this session's environment, where libraries look for them: variable → name of the secret."""
    for variable, name in names.items():
        value = read_secret(name)
        if value is None:
            sys.stdout.write(f"{name}: not set, or this notebook may not read it; going on without\n")
        else:
            os.environ[variable] = value
            sys.stdout.write(f"{name}: there\n")
