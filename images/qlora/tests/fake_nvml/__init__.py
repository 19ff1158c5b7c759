"""A fake NVIDIA driver library, compiled for the tests, and the scenario that it plays."""

import subprocess
from pathlib import Path

RTX_4090 = {
    "uuid": "GPU-4090", "name": "NVIDIA_GeForce_RTX_4090", "util": "87", "memutil": "41", "used": str(8 << 30),
    "total": str(24 << 30), "reserved": str(341 << 20), "temp": "66", "power": "301500", "limit": "450000",
    "energy": "123456789", "sm": "2520", "mem": "10501", "reasons": "0x0", "enc": "5", "dec": "6", "replay": "7",
    "eccc": "8", "eccu": "9", "pid": "4242", "pmem": str(7 << 30),
}  # fmt: skip
L4 = {
    "uuid": "GPU-l4", "name": "NVIDIA_L4", "util": "3", "memutil": "0", "used": str(1 << 30), "total": str(22 << 30),
    "temp": "91", "reasons": "0x44",
}  # fmt: skip


class FakeNvml:
    """`environment` makes a process load the library from `folder`; `play` says what the library tells from now on."""

    def __init__(self, folder: Path) -> None:
        self._scenario = folder / "scenario"
        self.environment = {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML_SCENARIO": str(self._scenario)}

    def play(self, *gpus: dict[str, str], init: int = 0, count: int | None = None) -> None:
        lines = [f"init {init}"]
        if count is not None:
            lines.append(f"count {count}")
        lines += ["gpu " + " ".join(f"{key}={value}" for key, value in gpu.items()) for gpu in gpus]
        fresh = self._scenario.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self._scenario)


def build(folder: Path) -> Path:
    """Compiles the library into `folder`."""
    library = folder / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("nvml.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", library, source], check=True)
    return library
