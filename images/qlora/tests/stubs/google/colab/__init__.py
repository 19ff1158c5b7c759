"""What only Colab has, for tests: a folder in place of Drive, secrets from a file, downloads into a list.

`STUB_COLAB` names a folder: `drive/` is what is mounted, `secrets.json` the secrets, `calls.jsonl` what was called.
"""

import json
import os
from pathlib import Path


def folder() -> Path:
    return Path(os.environ["STUB_COLAB"])


def called(name: str, **arguments: object) -> None:
    with (folder() / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"call": name, **arguments}) + "\n")
