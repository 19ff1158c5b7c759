"""A VM in a folder: the agent's modules look below `vm`, and ask a fake cloud."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "stacks/targets/gcp-vm/vm"), str(HERE)]

from fake_cloud import Cloud, listen  # noqa: E402 - found by the path above


class Vm:
    """A VM's folders, its cloud, and programs in place of Docker's and NVIDIA's that note what they were asked."""

    def __init__(self, root: Path, cloud: Cloud) -> None:
        self.root = root
        self.cloud = cloud
        self.data, self.run, self.programs = root / "data", root / "run", root / "bin"
        for folder in (self.data, self.run, self.programs):
            folder.mkdir(parents=True)
        self.config: dict[str, Any] = {
            "project": "team-ml",
            "region": "us-central1",
            "group": "tunestack-prod",
            "bucket": "team-ml-tunestack-prod",
            "secrets": ["jupyter-token", "hf-token"],
            "maximumRunSeconds": 86400,
            "idleShutdownSeconds": 1800,
        }

    def program(self, name: str, script: str) -> None:
        file = self.programs / name
        file.write_text(f'#!/bin/bash\necho "{name} $*" >> {self.root}/asked\n{script}\n')
        file.chmod(0o755)

    def asked(self) -> list[str]:
        file = self.root / "asked"
        return file.read_text().splitlines() if file.exists() else []

    def object(self, name: str) -> bytes | None:
        file = self.cloud.root / "bucket" / name
        return file.read_bytes() if file.exists() else None

    def requests(self) -> list[str]:
        return [line.split(" ", 1)[1] for line in (self.cloud.root / "requests").read_text().splitlines()]


@pytest.fixture
def vm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vm]:
    import cloud
    import content
    import disk
    import ending
    import engine
    import machine
    import plan

    fake = Cloud(tmp_path / "cloud")
    vm = Vm(tmp_path / "vm", fake)
    for path, value in {
        "instance/name": "tunestack-prod-x1",
        "instance/zone": "projects/1/zones/us-central1-b",
        "instance/machine-type": "projects/1/machineTypes/g2-standard-8",
        "instance/preempted": "FALSE",
    }.items():
        fake.metadata(path, value)
    server = listen(fake, ("127.0.0.1", 0))
    address = f"http://127.0.0.1:{server.server_address[1]}"
    modules = (cloud, content, disk, ending, engine, machine, plan)
    replaced = {
        "METADATA": f"{address}/computeMetadata/v1",
        **dict.fromkeys(("STORAGE", "SECRETS", "COMPUTE"), address),
        "DATA": vm.data,
        "RUN": vm.run,
        "DISK": vm.root / "disk",
        "POLL_SECONDS": 0.02,
    }
    for module in modules:
        for name, value in replaced.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    monkeypatch.setenv("PATH", f"{vm.programs}:/usr/bin:/bin")
    # Waiting between tries is for real networks.
    monkeypatch.setattr(cloud, "_pause", lambda _: None)
    yield vm
    server.shutdown()
    server.server_close()
