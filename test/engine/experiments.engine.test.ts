import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { publish, type Queue } from "../../scripts/lib/experiments/branch.ts";
import { Git } from "../../scripts/lib/experiments/git.ts";
import { serveQueue } from "../../scripts/lib/experiments/serve.ts";
import { readState } from "../../scripts/lib/experiments/state.ts";
import { addExperiments } from "../../scripts/lib/experiments/submit.ts";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { secretFile, writeSecret } from "../../scripts/lib/setup/secrets.ts";
import { openStack } from "../../scripts/lib/stack.ts";
import { up } from "../../scripts/lib/train.ts";
import { freePorts } from "../lib/ports.ts";
import { type GitServer, insideAddress, startGitServer } from "./git-server.ts";
import { ENGINE, freshStack, type TestStack } from "./test-stack.ts";

const NAME = "test-queue";
const TOKEN = "t0ken-that-nobody-may-see";
const RUNNER = `${NAME}-agent-experiment-runner`;

let stack: TestStack;
let server: GitServer;
let folder: string;
let queue: Queue;

const git = (directory: string, ...args: string[]) => execFileSync("git", args, { cwd: directory, encoding: "utf8" });

beforeAll(async () => {
  const experiments = { repository: insideAddress(`${NAME}-`), pollInterval: "2s" };
  stack = await freshStack(NAME, { profiles: ["experiments", "monitor"], experiments });
  writeSecret(NAME, "git-token", TOKEN);
  await up(NAME);
  const [port = 0] = await freePorts(1);
  const image = `tunestack/${stack.prefix}training:${NAME}`;
  // The runner was there first, and has to get over a server that does not answer yet.
  server = await startGitServer({ prefix: stack.prefix, image, port, tokenFile: secretFile(NAME, "git-token") });
  folder = mkdtempSync(join(tmpdir(), "tunestack-queue-"));
  const mine = join(folder, "mine");
  mkdirSync(mine);
  git(mine, "init", "--quiet", "--initial-branch=main");
  git(mine, "config", "user.name", "me");
  git(mine, "config", "user.email", "me@host.example");
  git(mine, "config", "credential.helper", `!f() { echo username=x-access-token; echo password=${TOKEN}; }; f`);
  git(mine, "remote", "add", "origin", server.outside);
  cpSync(join(PROJECT_DIR, "examples", "data", "tunestack-help.jsonl"), join(mine, "notes.jsonl"));
  writeFileSync(
    join(mine, "hello.sh"),
    'echo "hello from $EXPERIMENT_NAME"; env; date > "$EXPERIMENT_OUTPUT_DIR/when.txt"\n',
  );
  git(mine, "add", "--all");
  git(mine, "commit", "--quiet", "--message", "code");
  queue = { git: new Git(mine), remote: "origin", branch: "gpu-experiments" };
});

afterAll(async () => {
  await server?.remove();
  await stack?.remove();
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
});

async function submit(...experiments: Readonly<Record<string, unknown>>[]): Promise<void> {
  const code = git(queue.git.directory, "rev-parse", "HEAD").trim();
  const edit = (entries: readonly unknown[]) => addExperiments(entries, experiments).entries;
  await publish(queue, { message: "Submit", code, edit });
}

async function statusOf(name: string): Promise<string | undefined> {
  return (await readState(queue)).jobs.find((job) => job.name === name)?.status;
}

describe("the service experiment-runner", () => {
  test("is healthy once the server answers", async () => {
    await expect
      .poll(async () => (await ENGINE.state(RUNNER)).health, { timeout: 180_000, interval: 1000 })
      .toBe("healthy");
  });

  test("runs what is pushed, and pushes its log and results", async () => {
    await submit({ name: "hello", command: "sh hello.sh" });
    await expect.poll(() => statusOf("hello"), { timeout: 120_000, interval: 1000 }).toBe("completed");
    const { commit, jobs } = await readState(queue);
    expect(jobs[0]?.results).toMatchObject({ exit_code: 0, outputs: "/checkpoints/experiments/hello" });
    const log = git(queue.git.directory, "show", `${commit}:experiment-results/hello/execution.log`);
    expect(log).toMatch(/hello from hello/);
    const kept = await ENGINE.run(RUNNER, ["cat", "/checkpoints/experiments/hello/when.txt"]);
    expect(kept.exitCode).toBe(0);
  });

  test("trains a preset as a run of this stack, which backups take along", async () => {
    await submit({
      name: "tuned",
      preset: "rehearsal",
      data: "notes.jsonl",
      set: { max_steps: 4, save_steps: 2 },
      gpus: 0,
    });
    await expect
      .poll(() => statusOf("tuned"), { timeout: 300_000, interval: 2000 })
      .toMatch(/completed|failed|error|timeout/);
    expect(await statusOf("tuned")).toBe("completed");
    const adapter = await ENGINE.run(RUNNER, [
      "ls",
      "/checkpoints/tuned/adapter/manifest.json",
      "/logs/tuned/status.json",
    ]);
    expect(adapter.exitCode, adapter.stderr).toBe(0);
    const backup = `${NAME}-agent-training-backup`;
    const taken = await ENGINE.run(backup, ["python", "-m", "tunestack_train.backup", "now", "--json"]);
    expect(taken.exitCode, taken.stderr).toBe(0);
    const listed = await ENGINE.run(backup, [
      "sh",
      "-c",
      "restic --repo /backup/restic --password-file /run/secrets/restic-password --no-cache --no-lock ls latest",
    ]);
    expect(listed.stdout).toContain("/checkpoints/tuned/adapter/manifest.json");
    expect(listed.stdout).toContain("/checkpoints/experiments/hello/when.txt");
    expect(listed.stdout).not.toContain(".experiment-runner");
  });

  test("shows the token to nobody: not in logs, results, the engine's record of the container, or the stack's state", async () => {
    const { commit } = await readState(queue);
    const shown = [
      await ENGINE.lastLines(RUNNER, 1000),
      JSON.stringify(await ENGINE.client.getContainer(RUNNER).inspect()),
      git(queue.git.directory, "show", `${commit}:experiment-results/hello/execution.log`),
      git(queue.git.directory, "show", `${commit}:experiment-results/hello/results.json`),
      JSON.stringify(await (await openStack(NAME)).exportStack()),
      (await ENGINE.run(RUNNER, ["sh", "-c", "grep -rl t0ken-that /checkpoints /logs || true"])).stdout,
    ];
    for (const text of shown) expect(text).not.toContain(TOKEN);
    expect(shown.at(-1)?.trim()).toBe("");
    expect(readFileSync(secretFile(NAME, "git-token"), "utf8").trim()).toBe(TOKEN);
  });

  test("is unhealthy with a wrong token, and says what to do", async () => {
    writeFileSync(secretFile(NAME, "git-token"), "wrong\n");
    await expect
      .poll(async () => (await ENGINE.state(RUNNER)).lastCheck, { timeout: 120_000, interval: 1000 })
      .toMatch(/does not accept the token/);
    expect(await ENGINE.lastLines(RUNNER, 20)).not.toContain("Traceback");
  });

  test("takes a new token by npm run experiment -- serve, and is well again", async () => {
    vi.stubEnv("GIT_TOKEN", TOKEN);
    try {
      const screen = await serveQueue(NAME, { ...queue, remote: insideAddress(stack.prefix) });
      expect(screen).toMatch(/experiment-runner\s+–\s+healthy/);
      expect(screen).not.toContain(TOKEN);
    } finally {
      vi.unstubAllEnvs();
    }
    await submit({ name: "again", command: "true" });
    await expect.poll(() => statusOf("again"), { timeout: 120_000, interval: 1000 }).toBe("completed");
  });

  test("a folder of this machine is refused before anything is changed", async () => {
    await expect(serveQueue(NAME, { ...queue, remote: "/srv/work.git" })).rejects.toThrow(
      /the runner's container does not see/,
    );
  });
});
