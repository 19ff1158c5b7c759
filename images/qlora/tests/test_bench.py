"""Benchmarks can be loaded where `npm run bench` starts them: nobody runs them daily, and they break unseen."""

import importlib
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCH.glob("*.py")))
def test_a_benchmark_can_be_loaded(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    assert importlib.import_module(name).__file__ == str(BENCH / f"{name}.py")


def test_the_data_of_the_overhead_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    written = importlib.import_module("overhead").write_data(tmp_path / "data.jsonl")
    assert written.stat().st_size > 100_000
