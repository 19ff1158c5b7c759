"""The settings of a run as JSON Schema: what the infrastructure checks `training.set` by before it makes anything.

`python -m tunestack_train.settings_schema > schemas/run-settings.schema.json`
"""

import json
import sys

from tunestack_train.settings import SETTINGS


def settings_schema() -> dict[str, object]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of a run of tunestack",
        "type": "object",
        "properties": {
            name: {**setting.schema, "description": setting.meaning, "allowed": setting.allowed}
            for name, setting in SETTINGS.items()
        },
        "additionalProperties": False,
    }


def as_text() -> str:
    return json.dumps(settings_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(as_text())
