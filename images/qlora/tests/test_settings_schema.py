"""The settings as JSON Schema, by which the infrastructure checks them."""

import os
from pathlib import Path

import pytest

from tunestack_train.presets import PRESETS
from tunestack_train.settings import SETTINGS
from tunestack_train.settings_schema import as_text

COMMITTED = Path(os.environ.get("TUNESTACK_SCHEMAS", "../../schemas"), "run-settings.schema.json")


def test_the_committed_schema_is_that_of_the_settings() -> None:
    assert as_text() == COMMITTED.read_text(encoding="utf-8"), (
        "make it anew: PYTHONPATH=images/qlora/src python3 -m tunestack_train.settings_schema > schemas/"
        + COMMITTED.name
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_the_ends_that_the_schema_tells_are_those_that_are_read(name: str) -> None:
    setting = SETTINGS[name]
    schema = setting.schema
    values = schema["enum"] if "enum" in schema else [schema[end] for end in ("minimum", "maximum") if end in schema]
    assert isinstance(values, list)
    for value in values:
        assert not isinstance(value, list)
        assert setting.read(value) == value
    for end, beyond in (("exclusiveMinimum", 0), ("minimum", -1), ("maximum", 1)):
        if end in schema:
            edge = schema[end]
            assert isinstance(edge, int | float)
            with pytest.raises(ValueError, match="is not"):
                setting.read(edge + beyond)


def test_every_preset_is_of_the_settings() -> None:
    assert {name for preset in PRESETS.values() for name in preset} <= set(SETTINGS)
