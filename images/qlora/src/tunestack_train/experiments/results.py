"""`results.json` and what else of an experiment goes to git."""

import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tunestack_train.experiments.format import RESULTS_FOLDER
from tunestack_train.experiments.json_text import indented, read
from tunestack_train.experiments.positions import Json

RESULTS: Final = "results.json"
LOG: Final = "execution.log"
LOG_BYTES_IN_GIT: Final = 256 << 10
_METRICS_BYTES: Final = 1 << 20
_MOST_FILES: Final = 100_000


def now() -> str:
    """Now in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def hostname() -> str:
    return socket.gethostname()


def write_atomically(path: Path, content: str) -> None:
    """The file is there whole or as it was before, also after a power cut."""
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("w", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)


def read_results(output: Path) -> Mapping[str, Json] | None:
    """The results in an outputs folder; None where there are none that can be read."""
    try:
        found = read((output / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def metrics_of_command(output: Path, since: float) -> Json:
    """The object in `metrics.json`, if the command wrote it after `since` (seconds since 1970)."""
    file = output / "metrics.json"
    try:
        if file.stat().st_mtime < since - 1 or file.stat().st_size > _METRICS_BYTES:
            return None
        found = read(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def metrics_of_run(name: str) -> Json:
    """Steps and losses of a run of tunestack, from its status file."""
    file = Path(os.environ.get("TUNESTACK_LOGS_DIR", "/logs")) / name / "status.json"
    try:
        status = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return {key: status.get(key) for key in ("step", "first_loss", "loss", "adapter") if status.get(key) is not None}


def files_for_git(name: str, results: Mapping[str, Json], log: bytes, output: Path) -> dict[str, bytes]:
    """What is pushed, by its path in the repository."""
    files = {
        f"{RESULTS_FOLDER}/{name}/{RESULTS}": f"{indented(dict(results))}\n".encode(),
        f"{RESULTS_FOLDER}/{name}/{LOG}": log,
    }
    curve = output / "metrics.jsonl"
    try:
        if curve.is_file() and curve.stat().st_size <= _METRICS_BYTES:
            files[f"{RESULTS_FOLDER}/{name}/metrics.jsonl"] = curve.read_bytes()
    except OSError:
        pass
    return files


def size_of(output: Path) -> tuple[int, int]:
    """Bytes and files in a folder, up to a hundred thousand files."""
    total = count = 0
    for folder, _, names in os.walk(output):
        for name in names:
            try:
                total += os.lstat(Path(folder) / name).st_size
            except OSError:
                continue
            count += 1
            if count >= _MOST_FILES:
                return total, count
    return total, count
