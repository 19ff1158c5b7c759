"""A bare repository with a queue, a person at a laptop who pushes to it, and runners as processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

SOURCES = Path(__file__).parent.parent / "src"
BRANCH = "gpu-experiments"


def git(folder: Path, *arguments: str, check: bool = True) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"git {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> object:
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("it did not come to that")
        time.sleep(0.1)


@dataclass
class Site:
    """`laptop` is a clone with the branch checked out."""

    folder: Path
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    logs: list[IO[bytes]] = field(default_factory=list)
    outputs_folder: Path | None = None

    @property
    def server(self) -> Path:
        return self.folder / "server.git"

    @property
    def laptop(self) -> Path:
        return self.folder / "laptop"

    @property
    def outputs(self) -> Path:
        return self.outputs_folder or self.folder / "outputs"

    def make(self) -> "Site":
        git(self.folder, "init", "--quiet", "--bare", str(self.server))
        git(self.folder, "clone", "--quiet", str(self.server), str(self.laptop))
        for key, value in {"user.name": "Person", "user.email": "person@example.com"}.items():
            git(self.laptop, "config", key, value)
        git(self.laptop, "checkout", "--quiet", "-b", BRANCH)
        (self.laptop / "code.txt").write_text("first\n")
        self.push([])
        return self

    def push(self, experiments: object, *options: str) -> None:
        self.push_text(json.dumps(experiments, indent=2) + "\n", *options)

    def push_text(self, text: str, *options: str) -> None:
        (self.laptop / "experiments.json").write_text(text)
        git(self.laptop, "add", "--all")
        git(self.laptop, "commit", "--quiet", "--allow-empty", "--message", "a person's change")
        git(self.laptop, "push", "--quiet", *options, "origin", BRANCH)

    def edit(self, change: Callable[[list[dict[str, object]]], None]) -> None:
        """A change on top of what is there, pushed; tried again where a runner was faster."""
        for _ in range(20):
            git(self.laptop, "fetch", "--quiet", "origin", BRANCH)
            git(self.laptop, "reset", "--quiet", "--hard", "FETCH_HEAD")
            entries = json.loads((self.laptop / "experiments.json").read_text())
            change(entries)
            (self.laptop / "experiments.json").write_text(json.dumps(entries, indent=2) + "\n")
            git(self.laptop, "commit", "--quiet", "--all", "--allow-empty", "--message", "a person's change")
            git(self.laptop, "push", "--quiet", "origin", BRANCH, check=False)
            if git(self.server, "rev-parse", BRANCH) == git(self.laptop, "rev-parse", "HEAD"):
                return
        raise AssertionError("could not push")

    def entries(self) -> dict[str, dict[str, object]]:
        text = git(self.server, "show", f"{BRANCH}:experiments.json")
        return {entry["name"]: entry for entry in json.loads(text)}

    def status(self, name: str) -> object:
        return self.entries()[name].get("status", "pending")

    def shown(self, name: str, file: str = "results.json") -> str:
        return git(self.server, "show", f"{BRANCH}:experiment-results/{name}/{file}")

    def results(self, name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.shown(name))
        return found

    def refs(self, kind: str) -> list[str]:
        prefix = f"refs/tunestack/{kind}/"
        out = git(self.server, "for-each-ref", "--format=%(refname)", prefix)
        return [ref.removeprefix(prefix) for ref in out.split()]

    def runner_file(self, name: str = "first") -> dict[str, object]:
        found: dict[str, object] = json.loads(
            git(self.server, "show", f"refs/tunestack/runners/{name}:runner.json", check=False) or "{}"
        )
        return found

    def problems(self, name: str = "first") -> set[object]:
        found = self.runner_file(name).get("problems", [])
        return {problem["code"] for problem in found} if isinstance(found, list) else set()

    def command(self, name: str = "first", *options: str, url: str | None = None) -> list[str]:
        return [
            *(sys.executable, "-m", "tunestack_train.experiments", "run", f"--repository={url or self.server}"),
            *(f"--state={self.folder / name}", f"--outputs={self.outputs}", f"--name={name}", "--gpus=none"),
            *("--poll=300ms", "--lease=3s", "--grace=2s", "--least-free=1MiB", "--gpus-on-cpu", *options),
        ]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(SOURCES), "GIT_CONFIG_NOSYSTEM": "1"} | dict(more or {})

    def start(
        self, name: str = "first", *options: str, environment: Mapping[str, str] | None = None, url: str | None = None
    ) -> "subprocess.Popen[bytes]":
        log = (self.folder / f"{name}.log").open("ab")
        process = subprocess.Popen(
            self.command(name, *options, url=url),
            env=self.environment(environment),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self.logs.append(log)
        self.processes.append(process)
        return process

    def once(
        self, name: str = "first", *options: str, environment: Mapping[str, str] | None = None, url: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(name, "--once", *options, url=url),
            env=self.environment(environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def said(self, name: str = "first") -> str:
        return (self.folder / f"{name}.log").read_text()

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for log in self.logs:
            log.close()
