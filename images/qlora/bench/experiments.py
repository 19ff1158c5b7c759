"""Experiments through git: runners that are killed at random, how soon a push is started, what an idle runner asks for.

`--experiments N` takes fewer than the thousand; TUNESTACK_BENCH_EXPERIMENTS does the same. `--only PART` measures one
part: idle, latency, crowd or kills.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from measures import Measure, report, say

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from git_server import GitServer
from queue_site import BRANCH, Site, git, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

RUNNERS = 8
CROWD_EXPERIMENTS = 96
SECONDS_BETWEEN_KILLS = 4.0
LONGEST_SECONDS = 3 * 3600.0
LEASE = "30s"
COMMAND = 'echo begun >> "$EXPERIMENT_OUTPUT_DIR/marks"; echo ended >> "$EXPERIMENT_OUTPUT_DIR/marks"'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = int(os.environ.get("TUNESTACK_BENCH_EXPERIMENTS", "1000"))
    parser.add_argument("--experiments", type=int, default=default)
    parser.add_argument("--only", choices=["idle", "latency", "crowd", "kills"])
    options = parser.parse_args()
    parts: dict[str, Callable[[Path], list[Measure]]] = {
        "idle": idle,
        "latency": latency,
        "crowd": crowd,
        "kills": lambda folder: killed_at_random(folder, options.experiments),
    }
    measures: list[Measure] = []
    for name, part in parts.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                measures += part(Path(folder))
    report(*measures)


def crowd(folder: Path) -> list[Measure]:
    """As many runners as there are, all with something to say at the same time, and nothing that goes wrong."""
    site = queue(folder, CROWD_EXPERIMENTS)
    began, before = time.monotonic(), os.times()
    try:
        processes = [site.start(f"r{number}", f"--lease={LEASE}", "--poll=10s", "--once") for number in range(RUNNERS)]
        for process in processes:
            process.wait()
        seconds, after = time.monotonic() - began, os.times()
        calls = sum((git_calls(site, f"r{number}") for number in range(RUNNERS)), Counter[str]())
    finally:
        site.end()
    say(f"git commands: {dict(calls.most_common())}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return [
        Measure("crowd: experiments not completed", unfinished(site), "", "<= 0"),
        Measure("crowd: time per experiment, all runners", seconds / CROWD_EXPERIMENTS, "s", None),
        Measure("crowd: processor time per experiment", used / CROWD_EXPERIMENTS, "s", None),
        Measure("crowd: git commands per experiment", calls.total() / CROWD_EXPERIMENTS, "", None),
        Measure("crowd: pushes per experiment", calls["push"] / CROWD_EXPERIMENTS, "", None),
    ]


def queue(folder: Path, count: int) -> Site:
    """A branch with so many experiments that take no time."""
    site = Site(folder).make()
    # What the server does to keep house is not measured.
    git(site.server, "config", "gc.auto", "0")
    site.push([{"name": f"e{number:04}", "command": COMMAND, "gpus": 0} for number in range(count)])
    return site


def killed_at_random(folder: Path, count: int) -> list[Measure]:
    """Every experiment writes a line when it begins and when it ends; the branch's history tells the rest."""
    site = queue(folder, count)
    chance = random.Random(20261124)  # noqa: S311
    runners: dict[str, subprocess.Popen[bytes]] = {}
    kills, began, calls = 0, time.monotonic(), Counter[str]()

    def start(name: str) -> None:
        runners[name] = site.start(name, f"--lease={LEASE}", "--poll=6s", "--cpu-places=1")

    try:
        for number in range(RUNNERS):
            start(f"r{number}")
        killed_at = time.monotonic()
        while (open_ones := unfinished(site)) and time.monotonic() - began < LONGEST_SECONDS:
            time.sleep(0.5)
            if time.monotonic() - killed_at < SECONDS_BETWEEN_KILLS:
                continue
            killed_at = time.monotonic()
            name = chance.choice(sorted(runners))
            os.killpg(runners[name].pid, signal.SIGKILL)
            runners[name].wait()
            kills += 1
            calls += git_calls(site, name)
            if chance.random() < 0.25:
                # As on a machine that is gone for good: nobody knows its state folder any more.
                runners.pop(name)
                name = f"r{kills + RUNNERS}"
            start(name)
            if kills % 10 == 0:
                say(f"{count - open_ones} of {count} done, {kills} kills, {time.monotonic() - began:.0f} s")
        seconds = time.monotonic() - began
        calls = sum((git_calls(site, name) for name in runners), calls)
    finally:
        site.end()
    completions = completed_by_claim(site)
    ends = sum((path.read_text().count("ended") for path in site.outputs.glob("*/marks")), 0)
    return [
        Measure("experiments", count, "", None),
        Measure("runners killed", kills, "", None),
        Measure("experiments not completed", unfinished(site), "", "<= 0"),
        Measure("experiments lost from the file", count - len(site.entries()), "", "<= 0"),
        Measure("completed more than once by claim", sum(one > 1 for one in completions.values()), "", "<= 0"),
        Measure("command ran to its end, per experiment", ends / count, "×", None),
        Measure("claims left over", len(site.refs("claims")), "", None),
        Measure("time per experiment, all runners", seconds / count, "s", None),
        Measure("attempts lost to kills, per experiment", lost(site) / count, "", None),
        Measure("git commands per experiment", calls.total() / count, "", None),
    ]


def unfinished(site: Site) -> int:
    return sum(entry.get("status") != "completed" for entry in site.entries().values())


def lost(site: Site) -> int:
    attempts = [entry.get("attempt") for entry in site.entries().values()]
    return sum(int(attempt.get("lost", 0)) for attempt in attempts if isinstance(attempt, dict))


def git_calls(site: Site, name: str) -> Counter[str]:
    """What a runner has asked of git since its start, as of its last turn."""
    try:
        status = json.loads((site.folder / name / "status.json").read_text())
    except FileNotFoundError:
        return Counter()
    return Counter(status.get("git_calls", {}))


def completed_by_claim(site: Site) -> dict[str, int]:
    """How often each experiment became completed in the history of the branch."""
    commits = git(site.server, "rev-list", "--reverse", "--first-parent", BRANCH).split()
    request = "".join(f"{commit}:experiments.json\n" for commit in commits)
    done = subprocess.run(
        ["git", "cat-file", "--batch"],  # noqa: S607
        cwd=site.server,
        input=request.encode(),
        capture_output=True,
        check=True,
    )
    before: dict[str, str] = {}
    counts: dict[str, int] = {}
    rest = memoryview(done.stdout)
    for _ in commits:
        head = bytes(rest[:120]).split(b"\n")[0]
        size = int(head.split()[2])
        text = bytes(rest[len(head) + 1 : len(head) + 1 + size])
        rest = rest[len(head) + 2 + size :]
        for entry in json.loads(text):
            name, status = entry["name"], entry.get("status", "pending")
            if status == "completed" and before.get(name) != "completed":
                counts[name] = counts.get(name, 0) + 1
            before[name] = status
    return counts


def latency(folder: Path) -> list[Measure]:
    """From the end of a push to the start of the command, of an idle runner, for two intervals side by side."""
    measures: list[Measure] = []
    chance = random.Random(4)  # noqa: S311
    for poll in (2, 6):
        site = Site(folder / f"poll-{poll}")
        site.folder.mkdir()
        site.make()
        site.start("first", f"--poll={poll}s", f"--lease={LEASE}")
        wait_for(lambda site=site: site.refs("runners"))
        waits: list[float] = []
        for number in range(10):
            mark = site.folder / f"mark-{number}"
            time.sleep(chance.uniform(0, poll))
            entry = {"name": f"e{number}", "command": f"touch {mark}"}
            site.edit(lambda entries, entry=entry: entries.append(entry))
            pushed = time.time()
            wait_for(mark.exists)
            waits.append(mark.stat().st_mtime - pushed)
            wait_for(lambda site=site, number=number: site.status(f"e{number}") == "completed")
        site.end()
        say(f"poll {poll} s: {', '.join(f'{wait:.2f}' for wait in waits)} s")
        measures += [
            Measure(f"push to start, poll {poll} s, median", statistics.median(waits), "s", None),
            Measure(f"push to start, poll {poll} s, most", max(waits), "s", f"<= {1.1 * poll + 3:g}"),
            Measure(f"push to start over the poll interval, poll {poll} s", statistics.median(waits) / poll, "×", None),
        ]
    return measures


def idle(folder: Path) -> list[Measure]:
    """Bytes both ways by HTTP, with an idle runner and the refs of seven others; and of a fetch in place of a look."""
    site = Site(folder).make()
    site.push([{"name": f"e{number}", "command": "true", "status": "completed"} for number in range(50)])
    for number in range(7):
        git(site.laptop, "push", "--quiet", "origin", f"HEAD:refs/tunestack/runners/r{number}")
        git(site.laptop, "push", "--quiet", "origin", f"HEAD:refs/tunestack/claims/e{number}")
    server = GitServer(site.folder).start()
    try:
        site.start("first", "--poll=500ms", "--lease=1h", url=server.url("server.git"))
        wait_for(lambda: "r" in "".join(site.refs("runners")) and "first" in site.refs("runners"))
        time.sleep(3)
        requests, size, began = server.requests, server.received + server.sent, time.monotonic()
        time.sleep(15)
        requests, size = server.requests - requests, server.received + server.sent - size
        polls = (time.monotonic() - began) / 0.5
        site.end()
        before = server.received + server.sent
        git(site.laptop, "-c", "protocol.version=2", "fetch", "--quiet", server.url("server.git"), BRANCH)
        fetched = server.received + server.sent - before
        before = server.received + server.sent
        commit = git(site.laptop, "commit-tree", "-m", "report", git(site.laptop, "rev-parse", "HEAD^{tree}"))
        git(site.laptop, "push", "--quiet", server.url("server.git"), f"+{commit}:refs/tunestack/runners/first")
        pushed = server.received + server.sent - before
    finally:
        server.stop()
        site.end()
    per_poll, per_hour = size / polls, 60 * size / polls + 4 * pushed
    return [
        Measure("idle runner, bytes a look", per_poll, "B", None),
        Measure("idle runner, requests a look", requests / polls, "", "<= 3"),
        Measure("idle runner, an hour at 60 s with four reports", per_hour / 1024, "KiB", "<= 512"),
        Measure("a fetch without news over a look", fetched / per_poll, "×", None),
    ]


if __name__ == "__main__":
    main()
