"""What belongs into a snapshot: complete checkpoints and adapters, logs, GGUF files, nothing half-written."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tunestack_train.backup.settings import Part
from tunestack_train.manifest import MANIFEST, problems

# Set aside as damaged, by the name that training gives.
_DAMAGED = re.compile(r".*\.damaged(-\d+)?")
_MADE_BY_TRAINING = re.compile(r"checkpoint-\d+|adapter")

Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Excluded:
    """Something that stays out of a snapshot, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Contents:
    """`complete` maps each folder with a manifest to its files and their sizes in bytes."""

    roots: Mapping[Part, Path]
    complete: Mapping[Path, Mapping[str, int]]
    excluded: tuple[Excluded, ...]
    has_gguf: bool

    @property
    def worthwhile(self) -> bool:
        """Whether there is more than logs."""
        return bool(self.complete) or self.has_gguf

    @property
    def runs(self) -> list[str]:
        """Names of the runs of which a complete folder is there."""
        root = self.roots.get("checkpoints")
        if root is None:
            return []
        return sorted({path.relative_to(root).parts[0] for path in self.complete if path.is_relative_to(root)})

    def exclude_patterns(self) -> list[str]:
        """Patterns for restic, absolute, so that they hit nothing but what is meant."""
        patterns = [escape(excluded.path) for excluded in self.excluded]
        for part, root in self.roots.items():
            own = escape(root)
            # A name that begins with a dot is something being written, removed or restored.
            patterns += [f"{own}/lost+found", f"{own}/.*"]
            if part == "checkpoints":
                patterns += [f"{own}/*/.*", f"{own}/*/*.damaged", f"{own}/*/*.damaged-*"]
            if part == "gguf":
                patterns += [f"{own}/*.partial", f"{own}/*/.*.partial"]
            if part == "logs":
                patterns.append(f"{own}/backup_status.json")
        return patterns


class Survey:
    """Looks at the folders. It remembers what it has hashed, and hashes again only what has changed since."""

    def __init__(self, folders: Mapping[Part, Path]) -> None:
        self._folders = folders
        self._verified: dict[Path, tuple[Fingerprint, tuple[str, ...]]] = {}

    def look(self) -> Contents:
        roots = {part: folder for part, folder in self._folders.items() if folder.is_dir()}
        complete: dict[Path, Mapping[str, int]] = {}
        excluded: list[Excluded] = []
        seen: dict[Path, tuple[Fingerprint, tuple[str, ...]]] = {}
        for folder in _candidates(roots):
            try:
                seen[folder] = self._verify(folder)
                found = seen[folder][1]
                sizes = {} if found else sizes_by_manifest(folder)
            except OSError as error:
                found = (f"it cannot be read: {error.strerror}",)  # rotated away meanwhile, or not ours to read
            if found:
                excluded.append(Excluded(folder, "; ".join(found[:3])))
            else:
                complete[folder] = sizes
        self._verified = seen
        gguf = roots.get("gguf")
        has_gguf = gguf is not None and any(path.is_file() for path in gguf.glob("[!.]*"))
        return Contents(roots, complete, tuple(excluded), has_gguf)

    def _verify(self, folder: Path) -> tuple[Fingerprint, tuple[str, ...]]:
        fingerprint = _fingerprint(folder)
        known = self._verified.get(folder)
        if known is not None and known[0] == fingerprint:
            return known
        return fingerprint, tuple(problems(folder))


def sizes_by_manifest(folder: Path) -> dict[str, int]:
    """The files that the folder's manifest lists, the manifest itself, and their sizes. Raises OSError."""
    text = (folder / MANIFEST).read_bytes()
    return {MANIFEST: len(text), **sizes_in(text)}


def sizes_in(manifest: bytes) -> dict[str, int]:
    """The files that a manifest lists, and their sizes."""
    return {str(name): int(entry["size"]) for name, entry in json.loads(manifest)["files"].items()}


def folders_with_manifest(root: Path) -> list[Path]:
    """Every folder below `root` that has a manifest."""
    return sorted(path.parent for path in root.rglob(MANIFEST) if path.is_file())


def escape(path: Path) -> str:
    """A path as a pattern of restic that means just this path."""
    return re.sub(r"([\\*?\[])", r"\\\1", str(path))


def _candidates(roots: Mapping[Part, Path]) -> Iterator[Path]:
    """The folders that must verify: those with a manifest, and those that training gives one."""
    if "checkpoints" in roots:
        for run in _folders(roots["checkpoints"]):
            for folder in _folders(run):
                by_name = _MADE_BY_TRAINING.fullmatch(folder.name)
                if not _DAMAGED.fullmatch(folder.name) and (by_name or (folder / MANIFEST).exists()):
                    yield folder
    if "gguf" in roots:
        for folder in _folders(roots["gguf"]):
            yield from folders_with_manifest(folder)


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []  # removed meanwhile, or lost+found


def _fingerprint(folder: Path) -> Fingerprint:
    files = [(path.relative_to(folder).as_posix(), path.stat()) for path in sorted(folder.rglob("*"))]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in files)
