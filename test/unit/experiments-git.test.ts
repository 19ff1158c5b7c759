import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { entriesAt, fetchBranch, publish, type Queue } from "../../scripts/lib/experiments/branch.ts";
import { printLog } from "../../scripts/lib/experiments/follow-log.ts";
import { queueText } from "../../scripts/lib/experiments/format.ts";
import { Git } from "../../scripts/lib/experiments/git.ts";
import { formatOutputs, formatStatus } from "../../scripts/lib/experiments/report.ts";
import { readState } from "../../scripts/lib/experiments/state.ts";
import { addExperiments } from "../../scripts/lib/experiments/submit.ts";
import { drawSweeps, mergeLocalBranch, saveResults } from "../../scripts/lib/experiments/sync.ts";

const BRANCH = "gpu-experiments";

let folder: string;
let queue: Queue;

/** Git as a person types it. */
function git(directory: string, ...args: string[]): string {
  return execFileSync("git", args, { cwd: directory, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trimEnd();
}

function commit(directory: string, files: Readonly<Record<string, string>>): string {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(directory, name, ".."), { recursive: true });
    writeFileSync(join(directory, name), content);
  }
  git(directory, "add", "--all");
  git(directory, "commit", "--quiet", "--message", "a commit");
  return git(directory, "rev-parse", "HEAD");
}

function clone(name: string): string {
  git(folder, "clone", "--quiet", "bare.git", name);
  const directory = join(folder, name);
  git(directory, "config", "user.name", name);
  git(directory, "config", "user.email", `${name}@host.example`);
  return directory;
}

const queueIn = (directory: string): Queue => ({ git: new Git(directory), remote: "origin", branch: BRANCH });
const add =
  (name: string, fields: object = {}) =>
  (entries: readonly unknown[]) =>
    addExperiments(entries, [{ name, command: "true", ...fields }]).entries;
const head = (of: Queue) => git(of.git.directory, "rev-parse", "HEAD");
const onBranch = (path: string) => git(join(folder, "bare.git"), "show", `${BRANCH}:${path}`);
const names = () => (JSON.parse(onBranch("experiments.json")) as { name: string }[]).map(({ name }) => name);

beforeEach(() => {
  // Nothing of this machine's own configuration.
  vi.stubEnv("GIT_CONFIG_GLOBAL", "/dev/null");
  vi.stubEnv("GIT_CONFIG_SYSTEM", "/dev/null");
  folder = mkdtempSync(join(tmpdir(), "tunestack-queue-"));
  git(folder, "init", "--quiet", "--bare", "--initial-branch=main", "bare.git");
  const mine = clone("mine");
  commit(mine, { "train.py": "print(1)\n", "sub/other.py": "x\n" });
  git(mine, "push", "--quiet", "origin", "main");
  queue = queueIn(mine);
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

describe("publish", () => {
  test("makes the branch of the person's commit, and touches neither working tree nor index", async () => {
    const { directory } = queue.git;
    writeFileSync(join(directory, "train.py"), "print(2)  # not committed\n");
    writeFileSync(join(directory, "new.py"), "x\n");
    git(directory, "add", "new.py");
    const before = [git(directory, "status", "--porcelain"), readFileSync(join(directory, ".git/index")), head(queue)];
    const published = await publish(queue, { message: "Submit a", code: head(queue), edit: add("a") });
    expect(published.code).toMatch(/your commit .*; the branch is new/);
    expect([git(directory, "status", "--porcelain"), readFileSync(join(directory, ".git/index")), head(queue)]).toEqual(
      before,
    );
    expect(existsSync(join(directory, ".git/FETCH_HEAD"))).toBe(false);
    expect(git(directory, "branch", "--all", "--format=%(refname)").split("\n")).not.toContain(`refs/heads/${BRANCH}`);
    expect(onBranch("train.py")).toBe("print(1)");
    expect(onBranch("sub/other.py")).toBe("x");
    expect(names()).toEqual(["a"]);
  });

  test("carries the newest commit of the person, with what runners wrote kept", async () => {
    await publish(queue, { message: "a", code: head(queue), edit: add("a") });
    const runner = clone("runner");
    git(runner, "switch", "--quiet", BRANCH);
    commit(runner, { "experiment-results/a/results.json": '{"name": "a", "status": "completed"}' });
    git(runner, "push", "--quiet", "origin", BRANCH);
    commit(queue.git.directory, { "train.py": "print(3)\n" });
    await publish(queue, { message: "b", code: head(queue), edit: add("b") });
    expect(onBranch("train.py")).toBe("print(3)");
    expect(onBranch("experiment-results/a/results.json")).toContain("completed");
    expect(names()).toEqual(["a", "b"]);
    expect(git(join(folder, "bare.git"), "merge-base", "--is-ancestor", head(queue), BRANCH)).toBe("");
  });

  test("merges the code of two people, and refuses what does not merge", async () => {
    const yours = queueIn(clone("yours"));
    await publish(queue, { message: "a", code: head(queue), edit: add("a") });
    commit(queue.git.directory, { "train.py": "print('mine')\n" });
    await publish(queue, { message: "b", code: head(queue), edit: add("b") });
    commit(yours.git.directory, { "sub/other.py": "yours\n" });
    const merged = await publish(yours, { message: "c", code: head(yours), edit: add("c") });
    expect(merged.code).toMatch(/merged with what others brought/);
    expect([onBranch("train.py"), onBranch("sub/other.py")]).toEqual(["print('mine')", "yours"]);
    commit(yours.git.directory, { "train.py": "print('yours')\n" });
    const before = git(join(folder, "bare.git"), "rev-parse", BRANCH);
    await expect(publish(yours, { message: "d", code: head(yours), edit: add("d") })).rejects.toThrow(
      /does not merge with the code that others brought to the branch: train\.py\n\s+→ .*--branch NAME/,
    );
    expect(git(join(folder, "bare.git"), "rev-parse", BRANCH)).toBe(before);
  });

  test("a commit that the branch has already changes no code", async () => {
    const older = head(queue);
    commit(queue.git.directory, { "train.py": "print(4)\n" });
    await publish(queue, { message: "a", code: head(queue), edit: add("a") });
    const { code } = await publish(queue, { message: "b", code: older, edit: add("b") });
    expect(code).toMatch(/the branch has your commit .*, and newer code since, which is what runs/);
    expect(onBranch("train.py")).toBe("print(4)");
  });

  test("is made again where somebody else was faster, and loses neither", async () => {
    await publish(queue, { message: "a", code: head(queue), edit: add("a") });
    const other = queueIn(clone("other"));
    let once = true;
    const { races } = await publish(queue, {
      message: "b",
      edit: (entries) => {
        if (once) {
          once = false;
          git(other.git.directory, "fetch", "--quiet");
          git(other.git.directory, "switch", "--quiet", BRANCH);
          commit(other.git.directory, { "experiments.json": queueText(add("between")(entries)) });
          git(other.git.directory, "push", "--quiet", "origin", BRANCH);
        }
        return add("b")(entries);
      },
    });
    expect(races).toBe(1);
    expect(names()).toEqual(["a", "between", "b"]);
  });

  test("four at once all get through", async () => {
    await publish(queue, { message: "a", code: head(queue), edit: add("a") });
    const others = Array.from({ length: 4 }, (_, index) => queueIn(clone(`c${index}`)));
    await Promise.all(others.map((each, index) => publish(each, { message: `e${index}`, edit: add(`e${index}`) })));
    expect(names().sort()).toEqual(["a", ...others.map((_, index) => `e${index}`)].sort());
  });

  test("a queue that is no JSON is not written over", async () => {
    commit(queue.git.directory, { "experiments.json": "[{,\n" });
    git(queue.git.directory, "push", "--quiet", "origin", `HEAD:${BRANCH}`);
    await expect(publish(queue, { message: "a", edit: add("a") })).rejects.toThrow(
      /experiments\.json:1 at \w+\n\s+is no JSON: .*; nothing can be added.*\n\s+→ mend the JSON.*then push it/,
    );
    const state = await readState(queue);
    expect(formatStatus(state, new Map())).toMatch(
      /^1 problem in experiments\.json of gpu-experiments:\n {2}experiments\.json:1 is no JSON/,
    );
    await expect(printLog(queue, "a", { follow: false, print: () => undefined })).rejects.toThrow(
      /experiments\.json:1/,
    );
  });

  test("status tells what a waiting experiment still waits for, by the lines of the file as it was pushed", async () => {
    const file = `[{ "name": "a", "command": "x", "status": "completed" }, { "name": "b", "command": "x" },
      { "name": "c", "command": "x", "needs": ["a", "b"] },

      { "name": "d", "comand": "x" }]`;
    commit(queue.git.directory, { "experiments.json": file });
    git(queue.git.directory, "push", "--quiet", "origin", `HEAD:${BRANCH}`);
    const screen = formatStatus(await readState(queue), new Map());
    expect(screen).toMatch(/c\s+pending\s+–\s+–\s+after b\n/);
    expect(screen).toMatch(/1 completed, 2 pending\n\n2 problems/);
    expect(screen).toMatch(/experiments\.json:4 \[3\]\.comand \(d\)/);
  });

  test("status tells of runners also where the branch is gone", async () => {
    const directory = queue.git.directory;
    const report = { runner: "box", state: "running", updated_at: new Date().toISOString(), running: ["a"] };
    commit(directory, { "runner.json": JSON.stringify(report) });
    git(directory, "push", "--quiet", "origin", "HEAD:refs/tunestack/runners/box");
    expect(formatStatus(await readState(queue), new Map())).toMatch(/^There is no branch.*\n\nrunner box: runs a/);
  });

  test("a branch that is not there is told, where nobody's commit could begin it", async () => {
    await expect(publish(queue, { message: "x", edit: (entries) => entries })).rejects.toThrow(
      /branch gpu-experiments\n\s+is not there yet\n\s+→ .*submit/,
    );
  });
});

describe("access that fails is told without a stack trace", () => {
  test("a folder that is no repository, a remote that is not there, a server that does not answer", async () => {
    await expect(fetchBranch({ ...queue, git: new Git(folder) })).rejects.toThrow(/is no git repository/);
    await expect(fetchBranch({ ...queue, git: new Git("/nowhere") })).rejects.toThrow(/is no git repository/);
    await expect(fetchBranch({ ...queue, remote: "/nowhere.git" })).rejects.toThrow(/there is no such repository/);
    await expect(fetchBranch({ ...queue, remote: "http://127.0.0.1:9/x.git" })).rejects.toThrow(/cannot be reached/);
  });

  test("a server's rule", async () => {
    const hook = join(folder, "bare.git/hooks/pre-receive");
    writeFileSync(hook, "#!/bin/sh\necho this branch is protected >&2\nexit 1\n", { mode: 0o755 });
    await expect(publish(queue, { message: "a", code: head(queue), edit: add("a") })).rejects.toThrow(
      /the server refuses a push to this branch by a rule of its own[\s\S]*this branch is protected/,
    );
  });

  test("nobody's name", async () => {
    const { directory } = queue.git;
    git(directory, "config", "user.useConfigOnly", "true");
    git(directory, "config", "--unset", "user.email");
    await expect(publish(queue, { message: "a", code: head(queue), edit: add("a") })).rejects.toThrow(
      /git does not know who makes the commit[\s\S]*user\.email/,
    );
  });
});

describe("sync", () => {
  test("merges what was committed by hand with what runners wrote, by experiment, and pushes it", async () => {
    await publish(queue, { message: "a", code: head(queue), edit: add("a") });
    const { directory } = queue.git;
    git(directory, "fetch", "--quiet");
    git(directory, "switch", "--quiet", BRANCH);
    commit(directory, {
      "experiments.json": queueText([
        { name: "a", command: "true", status: "pending", description: "mine" },
        { name: "b", command: "x" },
      ]),
    });
    const runner = clone("runner");
    git(runner, "switch", "--quiet", BRANCH);
    commit(runner, {
      "experiments.json": queueText([{ name: "a", command: "true", status: "running", attempt: { number: 1 } }]),
    });
    git(runner, "push", "--quiet", "origin", BRANCH);
    const merged = await mergeLocalBranch(queue, await fetchBranch(queue));
    expect(merged.kind).toBe("merged");
    expect(JSON.parse(onBranch("experiments.json"))).toEqual([
      { name: "a", command: "true", status: "running", attempt: { number: 1 }, description: "mine" },
      { name: "b", command: "x" },
    ]);
    expect(JSON.parse(readFileSync(join(directory, "experiments.json"), "utf8"))).toHaveLength(2);
    expect(git(directory, "status", "--porcelain")).toBe("");
    expect((await mergeLocalBranch(queue, await fetchBranch(queue))).kind).toBe("same");
  });

  test("leaves a branch alone that is checked out with changes", async () => {
    await publish(queue, { message: "a", code: head(queue), edit: add("a") });
    const { directory } = queue.git;
    git(directory, "fetch", "--quiet");
    git(directory, "switch", "--quiet", BRANCH);
    writeFileSync(join(directory, "train.py"), "changed\n");
    await publish(queue, { message: "b", edit: add("b") });
    expect((await mergeLocalBranch(queue, await fetchBranch(queue))).kind).toBe("dirty");
    expect(readFileSync(join(directory, "train.py"), "utf8")).toBe("changed\n");
    git(directory, "checkout", "--quiet", "train.py");
    expect((await mergeLocalBranch(queue, await fetchBranch(queue))).kind).toBe("forwarded");
  });

  test("brings results here once, draws the sweep, and tells what came of each", async () => {
    const sweep = { name: "s", command: "x", matrix: { lr: [0.1, 0.2], seed: [1, 2] } };
    const children = Object.fromEntries(
      ["s.lr-0.1.seed-1", "s.lr-0.1.seed-2", "s.lr-0.2.seed-1"].map((name) => [
        name,
        { status: "completed", attempt: { number: 1 } },
      ]),
    );
    const results = (name: string, loss: number) =>
      JSON.stringify({
        schema: 1,
        name,
        status: "completed",
        exit_code: 0,
        seconds: 61,
        metrics: { loss, note: "text" },
        outputs: `/out/${name}`,
        outputs_bytes: 2048,
        outputs_files: 3,
        host: "gpu-box",
      });
    commit(queue.git.directory, {
      "experiments.json": queueText([{ ...sweep, status: "running", children }]),
      ...Object.fromEntries(
        Object.keys(children).map((name, index) => [
          `experiment-results/${name}/results.json`,
          results(name, 2 - index / 10),
        ]),
      ),
      "experiment-results/s.lr-0.1.seed-1/execution.log": "said \xff something\n",
    });
    git(queue.git.directory, "push", "--quiet", "origin", `HEAD:${BRANCH}`);
    const state = await readState(queue);
    const out = join(folder, "out");
    expect(await saveResults(queue, state, out)).toBe(4);
    expect(await saveResults(queue, state, out)).toBe(0);
    const table = formatOutputs(state.jobs);
    expect(table).toMatch(
      /s\.lr-0\.1\.seed-2\s+completed\s+0\s+1 min 1 s\s+1\.9\s+\/out\/s\.lr-0\.1\.seed-2 on gpu-box \(3 files, 2 KiB\)/,
    );
    expect(formatStatus(state, new Map())).toMatch(/3 completed, 1 pending/);
    const [picture = ""] = await drawSweeps(state.jobs, out);
    expect(readFileSync(picture).subarray(1, 4).toString()).toBe("PNG");
  });
});

test("an empty branch name of entries is no failure", async () => {
  expect(await entriesAt(queue.git, undefined)).toEqual([]);
});
