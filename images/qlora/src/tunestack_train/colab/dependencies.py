"""What a repository needs, in pip's terms: from requirements.txt, pyproject.toml or a conda environment file.

PyTorch and what is built for it stay as the session has them, where they fit: installing another build takes minutes
and a restart of the session.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tunestack_train.errors import SettingsError

FILES: Final = ("requirements.txt", "pyproject.toml", "env.yaml", "env.yml", "environment.yaml", "environment.yml")
"""Where a repository says what it needs; the first that is there is read."""

# Built for one CUDA and one another: they come as a set.
_KEPT: Final = frozenset({"torch", "torchvision", "torchaudio", "triton"})
# Of conda's packages those that PyPI calls otherwise (https://github.com/conda-forge, names of feedstocks).
_CONDA_NAMES: Final[Mapping[str, str]] = {
    "pytorch": "torch",
    "pytorch-gpu": "torch",
    "pytorch-cpu": "torch",
    "opencv": "opencv-python-headless",
    "py-opencv": "opencv-python-headless",
    "matplotlib-base": "matplotlib",
    "ruamel_yaml": "ruamel.yaml",
    "huggingface_hub": "huggingface-hub",
    "importlib_metadata": "importlib-metadata",
    "pytables": "tables",
    "dask-core": "dask",
    "seaborn-base": "seaborn",
    "faiss": "faiss-cpu",
}
# Programs and libraries of the system: the session has its own, and PyPI has none.
_CONDA_ONLY: Final = re.compile(
    r"(python|pip|conda|_.*|cuda.*|pytorch-cuda|pytorch-mutex|cudatoolkit.*|cudnn|nccl|mkl.*|blas|openblas|lib.*|"
    r"openssl|ca-certificates|gcc.*|gxx.*|cxx-compiler|c-compiler|compilers|make|cmake|git|git-lfs|ffmpeg|nodejs|"
    r"ncurses|readline|sqlite|tk|tzdata|xz|zlib|zstd|bzip2|ld_impl.*|intel-openmp|nvidia-.*|ninja-base|jpeg|libpng)"
)


@dataclass(frozen=True, slots=True)
class Needs:
    """`requirements` as pip takes them, `options` such as `--extra-index-url URL`, `notes` on what was left out."""

    source: str
    requirements: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Collected:
    requirements: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def needs(self, source: str) -> Needs:
        return Needs(source, tuple(self.requirements), tuple(self.options), tuple(self.notes))


def read_needs(folder: Path, extras: Sequence[str] = ()) -> Needs:
    """What the repository in `folder` needs; `extras` are optional groups of its pyproject.toml.

    Raises SettingsError for a file that cannot be read.
    """
    for name in FILES:
        file = folder / name
        if file.is_file():
            if file.suffix == ".txt":
                return read_requirements(file)
            return read_pyproject(file, extras) if file.suffix == ".toml" else read_conda(file)
    return Needs(f"none of {', '.join(FILES)} in {folder}")


def read_requirements(file: Path) -> Needs:
    """A requirements file, those that it includes among it. Hashes are left out: the session's packages have others."""
    collected = _Collected()
    _take_requirements(file, collected, seen=set())
    return collected.needs(file.name)


def _take_requirements(file: Path, collected: _Collected, seen: set[Path]) -> None:
    if file.resolve() in seen:
        return
    seen.add(file.resolve())
    text = _read(file).replace("\\\n", " ")
    for number, raw in enumerate(text.splitlines(), start=1):
        line = re.sub(r"(^|\s)#.*$", "", raw).strip()
        line = re.sub(r"\s--hash[= ]\S+", "", line).strip()
        included = re.match(r"(?:-r|--requirement)[= ]?\s*(\S+)", line)
        constrained = re.match(r"(?:-c|--constraint)[= ]?\s*(\S+)", line)
        if not line:
            continue
        if included:
            _take_requirements(file.parent / included[1], collected, seen)
        elif constrained:
            collected.options += ["--constraint", str(file.parent / constrained[1])]
        elif re.match(r"(-e|--editable)[= ]", line):
            target = re.sub(r"^(-e|--editable)[= ]\s*", "", line)
            local = target.startswith((".", "/"))
            collected.requirements.append(f"-e {(file.parent / target).resolve() if local else target}")
        elif line.startswith("-"):
            collected.options += re.split(r"[= ]\s*", line, maxsplit=1)
        elif line.startswith((".", "/")):
            collected.requirements.append(str((file.parent / line).resolve()))
        else:
            _take(line, f"{file.name}:{number}", collected)


def read_pyproject(file: Path, extras: Sequence[str] = ()) -> Needs:
    """`[project]` with the extras asked for, or Poetry's own table; the project itself where it can be built."""
    try:
        content = tomllib.loads(_read(file))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not TOML: {error}", "mend it, or delete it if nothing needs it") from None
    collected = _Collected()
    project = content.get("project", {})
    poetry = content.get("tool", {}).get("poetry", {})
    for one in project.get("dependencies", []):
        _take(one, f"{file.name}: project.dependencies", collected)
    for name, constraint in poetry.get("dependencies", {}).items():
        _take_poetry(name, constraint, collected)
    groups = project.get("optional-dependencies", {})
    for extra in extras:
        if extra not in groups:
            known = ", ".join(sorted(groups)) or "none"
            raise SettingsError(f"{file} has no optional dependencies {extra!r}", f"it has: {known}")
        for one in _with_own_extras(groups, extra, project.get("name", "")):
            _take(one, f"{file.name}: project.optional-dependencies.{extra}", collected)
    if "build-system" in content and (project or poetry):
        # Its own packages, without what it needs: that stands above.
        collected.notes.append("the project itself is taken from its folder")
    return collected.needs(file.name)


def _with_own_extras(groups: Mapping[str, Sequence[str]], extra: str, project: str) -> Iterator[str]:
    """What an extra asks for; `project[other]` in it stands for another extra of the project itself."""
    for one in groups.get(extra, ()):
        requirement = _parsed(one)
        if requirement is not None and requirement.extras and _same_name(requirement.name, project):
            for other in sorted(requirement.extras):
                yield from _with_own_extras(groups, other, project)
        else:
            yield one


def _same_name(one: str, other: str) -> bool:
    return canonicalize_name(one) == canonicalize_name(other)


def _take_poetry(name: str, constraint: object, collected: _Collected) -> None:
    if name == "python":
        return
    version = constraint.get("version") if isinstance(constraint, dict) else constraint
    if isinstance(constraint, dict) and "git" in constraint:
        revision = constraint.get("rev") or constraint.get("tag") or constraint.get("branch")
        collected.requirements.append(f"{name} @ git+{constraint['git']}" + (f"@{revision}" if revision else ""))
    elif isinstance(constraint, dict) and constraint.get("optional"):
        collected.notes.append(f"{name} is optional and left out")
    elif isinstance(version, str):
        collected.requirements.append(name + _poetry_specifier(version))
    else:
        collected.notes.append(f"{name} = {constraint!r} has no version that pip could take: left out")


def _poetry_specifier(version: str) -> str:
    """`^1.2.3` is `>=1.2.3,<2.0.0`, `~1.2.3` is `>=1.2.3,<1.3.0`: https://python-poetry.org/docs/dependency-specification."""
    text = version.strip()
    if text in {"*", ""}:
        return ""
    if text[0] not in "^~" or text.startswith("~="):
        return text if text[0] in "<>=!~" else f"=={text}"
    lowest = text[1:].strip()
    parts = [int(part) for part in re.findall(r"\d+", lowest)[:3]]
    if text[0] == "^":
        fixed = next((index for index, part in enumerate(parts) if part), len(parts) - 1)
    else:
        fixed = min(1, len(parts) - 1)
    upper = [*parts[:fixed], parts[fixed] + 1] + [0] * (len(parts) - fixed - 1)
    return f">={lowest},<{'.'.join(str(part) for part in upper)}"


def read_conda(file: Path) -> Needs:
    """A conda environment. What PyPI does not have (compilers, CUDA, Python itself) is left out and noted."""
    import yaml

    try:
        content = yaml.safe_load(_read(file))
    except yaml.YAMLError as error:
        raise SettingsError(f"{file} is not YAML: {error}", "mend it, or delete it if nothing needs it") from None
    listed = content.get("dependencies") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise SettingsError(f"{file} has no list `dependencies`", "write one, as `conda env export` does")
    collected = _Collected()
    for entry in listed:
        if isinstance(entry, str):
            _take_conda(entry, collected)
        elif isinstance(entry, dict):
            for one in entry.get("pip") or []:
                included = re.match(r"-r\s*(\S+)", str(one))
                if included:
                    _take_requirements(file.parent / included[1], collected, seen=set())
                else:
                    _take(str(one), f"{file.name}: pip", collected)
    return collected.needs(file.name)


def _take_conda(entry: str, collected: _Collected) -> None:
    bare = entry.rpartition("::")[2].strip()  # the channel in front
    match = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*(.*)", re.sub(r"\[.*\]$", "", bare))
    if match is None:
        raise SettingsError(f"{entry!r} is no package of a conda environment", "write it as NAME=VERSION")
    name, constraint = match[1].lower(), match[2].strip()
    if _CONDA_ONLY.fullmatch(name):
        collected.notes.append(f"{entry}: the session has its own")
        return
    collected.requirements.append(_CONDA_NAMES.get(name, name) + _conda_specifier(constraint))


def _conda_specifier(constraint: str) -> str:
    """`=1.26` means any 1.26, `=1.26.4=py311_0` one build of 1.26.4 (conda's match specification)."""
    if not constraint:
        return ""
    exact = re.fullmatch(r"=?([^=<>!~*\s]+)=([^=<>!]+)", constraint)
    if exact:
        return f"=={exact[1]}"
    fuzzy = re.fullmatch(r"=([^=<>!~*\s]+?)(\.?\*)?", constraint)
    if fuzzy:
        return f"=={fuzzy[1]}.*"
    return constraint.replace(" ", "") if constraint[0] in "<>=!~" else f"=={constraint.replace(' ', '')}"


def _take(text: str, where: str, collected: _Collected) -> None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        if re.match(r"(git\+|https?:|file:)", text):
            collected.requirements.append(text)
            return
        raise SettingsError(f"{where}: {text!r} is no requirement: {error}", "write it as pip takes it") from None
    if requirement.marker is None or requirement.marker.evaluate():
        requirement.marker = None
        collected.requirements.append(str(requirement))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}", "give a text file that is there") from None


@dataclass(frozen=True, slots=True)
class Plan:
    """`install` goes to pip; `kept` is there already; `constraints` hold what must not be replaced on the way."""

    install: tuple[str, ...]
    kept: tuple[str, ...]
    constraints: tuple[str, ...]


def plan_installation(requirements: Iterable[str], installed: Callable[[str], str | None], *, keep_torch: bool) -> Plan:
    """Leaves out what the session has. With `keep_torch` PyTorch stays even where another version is asked for."""
    install: list[str] = []
    kept: list[str] = []
    constraints = {name: version for name in sorted(_KEPT) if (version := installed(name)) is not None}
    for text in requirements:
        requirement = _parsed(text)
        version = None if requirement is None else installed(requirement.name)
        if requirement is None or version is None:
            install.append(text)
            continue
        name = canonicalize_name(requirement.name)
        fits = requirement.url is None and requirement.specifier.contains(Version(version), prereleases=True)
        if fits or (name in _KEPT and keep_torch):
            kept.append(f"{name} {version}" + ("" if fits else f" (asked for: {requirement.specifier})"))
            # An extra may ask for more than the package itself, which is there.
            if requirement.extras and name not in _KEPT:
                install.append(text)
        else:
            constraints.pop(name, None)
            install.append(text)
    if any(_name(text) in _KEPT for text in install):
        constraints = {}
    return Plan(tuple(install), tuple(kept), tuple(f"{name}=={version}" for name, version in constraints.items()))


def _parsed(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _name(text: str) -> str | None:
    requirement = _parsed(text)
    return None if requirement is None else canonicalize_name(requirement.name)


def installed_version(name: str) -> str | None:
    """The version of a package in this session; None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def install(folder: Path, extras: Sequence[str] = (), *, keep_torch: bool = True) -> None:
    """Installs what the repository in `folder` needs and the session lacks, and says what was kept and left out.

    Raises SettingsError with the end of pip's output where pip fails.
    """
    needs = read_needs(folder, extras)
    plan = plan_installation(needs.requirements, installed_version, keep_torch=keep_torch)
    _say(f"{needs.source}: {len(plan.install)} to install, {len(plan.kept)} there already")
    for note in (*needs.notes, *(f"kept {one}" for one in plan.kept if one.partition(" ")[0] in _KEPT)):
        _say(f"  {note}")
    if not plan.install:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(plan.constraints))
        constraints.flush()
        arguments = [part for one in plan.install for part in (one.split(" ", 1) if one.startswith("-e ") else [one])]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += [*needs.options, "--constraint", constraints.name, *arguments]
        # What a repository asks for is installed: that is what its owner opened the notebook for.
        ended = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if ended.returncode != 0:
        said = "\n".join((ended.stdout + ended.stderr).strip().splitlines()[-12:])
        raise SettingsError(f"pip could not install what {needs.source} asks for:\n{said}", "mend what it says there")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
