"""The manifest of a folder: size and SHA-256 of every file in it, so that a torn or changed folder is noticed.

A folder is complete when its `manifest.json` is there and every file that it lists is, unchanged. Standard library
only: the backup service and the health checks use this too.
"""

import hashlib
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Final

MANIFEST: Final = "manifest.json"
SCHEMA: Final = 1
_CHECKPOINT: Final = re.compile(r"checkpoint-(\d+)")


def write_manifest(folder: Path) -> None:
    """Flushes every file below `folder` to the disk and writes their sizes and hashes beside them, last."""
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": _flush_and_hash(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }
    text = json.dumps({"schema": SCHEMA, "created_at": datetime.now(UTC).isoformat(), "files": files}, indent=1)
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    for directory in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        flush_directory(directory)


def problems(folder: Path) -> list[str]:
    """What keeps `folder` from being complete, one line each. Empty: every file is there as it was written."""
    try:
        files = _listed_files(folder / MANIFEST)
    except FileNotFoundError:
        return [f"{MANIFEST} is missing"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{MANIFEST} cannot be read: {error}"]
    found: list[str] = []
    for name, (size, digest) in files.items():
        path = folder / name
        try:
            actual = path.stat().st_size
            if actual != size:
                found.append(f"{name} has {actual} bytes where the manifest says {size}")
            elif _hash(path) != digest:
                found.append(f"{name} differs from what was written: its SHA-256 is not the manifest's")
        except FileNotFoundError:
            found.append(f"{name} is missing")
        except OSError as error:
            found.append(f"{name} cannot be read: {error.strerror}")
    return found


def checkpoint_step(folder: Path) -> int | None:
    """The step of a folder named `checkpoint-STEP`; None for any other name."""
    match = _CHECKPOINT.fullmatch(folder.name)
    return int(match[1]) if match else None


def checkpoints(run_folder: Path) -> list[Path]:
    """The folders named `checkpoint-STEP` of a run, newest first, whether complete or not."""
    if not run_folder.is_dir():
        return []
    found = [(step, path) for path in run_folder.iterdir() if (step := checkpoint_step(path)) is not None]
    return [path for _, path in sorted(found, reverse=True) if path.is_dir()]


def complete_checkpoints(run_folder: Path) -> list[Path]:
    """The checkpoints of a run whose manifests hold, newest first."""
    return [path for path in checkpoints(run_folder) if not problems(path)]


def newest_complete(run_folder: Path) -> Path | None:
    """The newest checkpoint of a run whose manifest holds; None when there is none."""
    return next((path for path in checkpoints(run_folder) if not problems(path)), None)


def flush_directory(directory: Path) -> None:
    """Makes names that were added to or removed from `directory` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Makes `folder` with its parents, so that its name survives a power cut too."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        flush_directory(path.parent)


def replace_file(path: Path, text: str) -> None:
    """Writes a small file, whole or not at all, and flushes it: after a power cut it is the old or the new one."""
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    flush_directory(path.parent)


def _listed_files(manifest: Path) -> dict[str, tuple[int, str]]:
    content = json.loads(manifest.read_text(encoding="utf-8"))
    if content["schema"] != SCHEMA:
        raise ValueError(f"its schema is {content['schema']!r}, this version reads {SCHEMA}")
    listed = {str(name): (int(entry["size"]), str(entry["sha256"])) for name, entry in content["files"].items()}
    for name in listed:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"it lists {name!r}, which is outside the folder")
    return listed


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_and_hash(path: Path) -> str:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
