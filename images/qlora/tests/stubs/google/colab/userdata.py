"""google.colab.userdata: secrets of a file."""

import json

from google.colab import folder


class SecretNotFoundError(Exception):
    pass


class NotebookAccessError(Exception):
    pass


def get(key: str) -> str:
    secrets = json.loads((folder() / "secrets.json").read_text())
    if key not in secrets:
        raise SecretNotFoundError(key)
    if secrets[key] is None:
        raise NotebookAccessError(key)
    return str(secrets[key])
