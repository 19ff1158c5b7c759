import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, type TestContext, test, vi } from "vitest";
import { publish, type Queue } from "../../scripts/lib/experiments/branch.ts";
import { cancel, retry } from "../../scripts/lib/experiments/change-status.ts";
import { printLog } from "../../scripts/lib/experiments/follow-log.ts";
import { Git } from "../../scripts/lib/experiments/git.ts";
import { formatOutputs, formatStatus, summaryLine } from "../../scripts/lib/experiments/report.ts";
import { lastLines, readState } from "../../scripts/lib/experiments/state.ts";
import { addExperiments } from "../../scripts/lib/experiments/submit.ts";
import { drawSweeps, saveResults } from "../../scripts/lib/experiments/sync.ts";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";

const BRANCH = "gpu-experiments";
/** The runner's own code; it needs nothing but Python's standard library. */
const SOURCES = join(PROJECT_DIR, "images", "qlora", "src");

let folder: string;
let queue: Queue;

const git = (directory: string, ...args: string[]) =>
  execFileSync("git", args, { cwd: directory, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trimEnd();

/** Why the runner cannot be run here; undefined where it can. */
function missingPython(): string | undefined {
  const { status } = spawnSync("python3", ["-c", "import sys; sys.exit(sys.version_info < (3, 11))"]);
  return status === 0 ? undefined : "no python3 of version 3.11 or newer: with one, the real runner is run here";
}

const TRAIN = `
import json, os, pathlib, sys
rate = float(sys.argv[1])
print("rate", rate, flush=True)
out = pathlib.Path(os.environ["EXPERIMENT_OUTPUT_DIR"])
(out / "weights.bin").write_bytes(b"0" * 4096)
(out / "metrics.json").write_text(json.dumps({"loss": 1 + rate}))
if rate == 3: sys.exit("diverged")
`;

beforeEach(() => {
  vi.stubEnv("GIT_CONFIG_GLOBAL", "/dev/null");
  vi.stubEnv("GIT_CONFIG_SYSTEM", "/dev/null");
  folder = mkdtempSync(join(tmpdir(), "tunestack-end-to-end-"));
  git(folder, "init", "--quiet", "--bare", "--initial-branch=main", "bare.git");
  git(folder, "clone", "--quiet", "bare.git", "mine");
  const mine = join(folder, "mine");
  git(mine, "config", "user.name", "me");
  git(mine, "config", "user.email", "me@host.example");
  mkdirSync(join(mine, "code"));
  writeFileSync(join(mine, "code", "train.py"), TRAIN);
  git(mine, "add", "--all");
  git(mine, "commit", "--quiet", "--message", "code");
  queue = { git: new Git(mine), remote: "origin", branch: BRANCH };
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

async function submit(...experiments: Readonly<Record<string, unknown>>[]): Promise<void> {
  const code = git(queue.git.directory, "rev-parse", "HEAD");
  const edit = (entries: readonly unknown[]) => addExperiments(entries, experiments).entries;
  await publish(queue, { message: "Submit", code, edit });
}

/** The real runner, until nothing is left to run. */
function runOnce(): string {
  const args = ["run", "--once", "--repository", join(folder, "bare.git"), "--state", join(folder, "state")];
  const more = [
    "--outputs",
    join(folder, "outputs"),
    "--name",
    "box",
    "--gpus",
    "none",
    "--gpus-on-cpu",
    "--poll",
    "1s",
  ];
  const environment = { ...process.env, PYTHONPATH: SOURCES, PYTHONDONTWRITEBYTECODE: "1" };
  const command = ["-m", "tunestack_train.experiments", ...args, ...more];
  const { status, stdout, stderr } = spawnSync("python3", command, { encoding: "utf8", env: environment });
  expect(status, stderr + stdout).toBe(0);
  return stdout;
}

const runner = (name: string, body: (context: TestContext) => Promise<void>) =>
  test(name, { timeout: 120_000 }, async (context) => {
    const missing = missingPython();
    if (missing !== undefined) return context.skip(missing);
    await body(context);
  });

runner("submit, run, status, sync: what is typed here runs there, and its results come back", async () => {
  await submit(
    { name: "first", command: "python3 code/train.py 0.5" },
    { name: "sweep", command: "python3 code/train.py {rate}", matrix: { rate: [1, 2, 3] }, needs: ["first"] },
    { name: "after", command: "true", needs: ["sweep"] },
  );
  expect(formatStatus(await readState(queue), new Map())).toMatch(/5 pending\nno runner has ever been here/);
  runOnce();

  const state = await readState(queue);
  expect(state.problems).toEqual([]);
  expect(Object.fromEntries(state.jobs.map(({ name, status }) => [name, status]))).toEqual({
    first: "completed",
    "sweep.rate-1": "completed",
    "sweep.rate-2": "completed",
    "sweep.rate-3": "failed",
    after: "error",
  });
  const screen = formatStatus(state, lastLines(queue, state));
  expect(screen).toMatch(/first\s+completed\s+box/);
  expect(screen).toMatch(/after\s+error.*it needs sweep/);
  expect(screen).toMatch(/sweep\.rate-3\s+failed.*exit code 1: diverged/);
  expect(screen).toMatch(/runner box on .*: stopped/);
  expect(formatOutputs(state.jobs)).toMatch(
    /sweep\.rate-2\s+completed\s+0\s+.*\s3\s+.*outputs\/sweep\.rate-2 on .*\(\d+ files/,
  );

  const out = join(folder, "results");
  expect(await saveResults(queue, state, out)).toBeGreaterThanOrEqual(8);
  expect(readFileSync(join(out, "sweep.rate-3", "execution.log"), "utf8")).toMatch(/rate 3\.0\n.*diverged/);
  expect(await drawSweeps(state.jobs, out)).toEqual([join(out, "sweep.png")]);

  const printed: string[] = [];
  const job = await printLog(queue, "first", { follow: true, print: (text) => void printed.push(text) });
  expect(job?.status).toBe("completed");
  expect(printed.join("")).toMatch(/rate 0\.5/);
});

runner(
  "retry runs what failed again, with what was not started because of it; cancel keeps it from running",
  async () => {
    const marker = join(folder, "mended");
    await submit(
      { name: "flaky", command: `test -e ${marker}` },
      { name: "after", command: "true", needs: ["flaky"] },
      { name: "never", command: `touch ${join(folder, "ran")}` },
    );
    await publish(queue, { message: "Cancel", edit: (entries) => cancel(entries, ["never"]).entries });
    runOnce();
    expect(summaryLine((await readState(queue)).jobs)).toBe("1 failed, 1 error, 1 cancelled");
    writeFileSync(marker, "");
    await publish(queue, { message: "Retry", edit: (entries) => retry(entries, ["flaky"]).entries });
    runOnce();
    const { jobs } = await readState(queue);
    expect(summaryLine(jobs)).toBe("2 completed, 1 cancelled");
    expect(() => readFileSync(join(folder, "ran"))).toThrow();
  },
);
