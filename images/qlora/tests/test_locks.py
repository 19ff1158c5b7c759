"""The lock files: one resolution, and for each stage a part of it, hashed, without the address of an index."""

import re
import tomllib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent
STAGES = ("training-cu126", "training-cpu", "dev", "monitor", "build", "test")
UNUSED_ON_CPU = {"triton", "liger-kernel", "nvidia-cusolver-cu12", "nvidia-nvtx-cu12", "nvidia-cuda-nvrtc-cu12"}


def locked(name: str) -> dict[str, list[str]]:
    """Version and hashes of each package. Where it is installed (its marker) may be narrower in a part."""
    text = (PACKAGE / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found: dict[str, list[str]] = {}
    for line in lines:
        pin, *hashes = re.sub(r" ;.*?(?= --hash)", "", line).split()
        package, _, version = pin.partition("==")
        found[package] = [version, *hashes]
    return found


WHOLE = locked("requirements.lock")


def test_the_parts_together_are_the_whole() -> None:
    assert {package for stage in STAGES for package in locked(f"requirements.{stage}.lock")} == set(WHOLE)


@pytest.mark.parametrize("name", ["requirements.lock", *(f"requirements.{stage}.lock" for stage in STAGES)])
def test_every_entry_is_hashed_and_is_that_of_the_whole(name: str) -> None:
    entries = locked(name)
    assert entries
    for package, entry in entries.items():
        version, *hashes = entry
        assert version, package
        assert hashes, package
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", text) for text in hashes), package
        assert entry == WHOLE[package], package


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("requirements*.lock")), ids=lambda path: path.name)
def test_no_index_is_named_and_the_file_says_how_it_is_made(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    assert "images/qlora/lock.sh" in text


def test_a_cpu_installs_what_a_gpu_does_but_for_what_it_never_loads() -> None:
    cuda, cpu = locked("requirements.training-cu126.lock"), locked("requirements.training-cpu.lock")
    assert set(cuda) - set(cpu) == UNUSED_ON_CPU
    assert all(cuda[package] == entry for package, entry in cpu.items())


def test_what_pyproject_pins_is_what_is_locked() -> None:
    with (PACKAGE / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    pins = [pin.split("==") for extra in extras.values() for pin in extra if not pin.startswith("tunestack-train")]
    assert len(pins) > 15
    for package, version in pins:
        assert WHOLE[package.lower()][0] == version, package


def test_the_monitor_stays_small() -> None:
    with (PACKAGE / "pyproject.toml").open("rb") as file:
        monitor = tomllib.load(file)["project"]["optional-dependencies"]["monitor"]
    assert set(locked("requirements.monitor.lock")) == {pin.partition("==")[0] for pin in monitor}
