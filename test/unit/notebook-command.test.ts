import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tunestack-notebook-"));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** As a person types it in a folder of their own. */
function type(...args: string[]): { readonly code: number | null; readonly said: string } {
  const environment = { ...process.env, INIT_CWD: folder };
  const command = ["--import", "tsx", join(PROJECT_DIR, "scripts", "notebook.mts"), ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, { cwd: PROJECT_DIR, env: environment });
  return { code: status, said: `${stdout}${stderr}` };
}

test("a notebook is written where the command was typed, never over another, and without a token", {
  timeout: 60_000,
}, () => {
  const tools = "https://me:t0ken@git.example/team/tunestack.git";
  const { code, said } = type("daemon", "--tools", tools, "--repo", "git@git.example:me/work.git");
  expect(code, said).toBe(0);
  const text = readFileSync(join(folder, "colab_gpu_daemon.ipynb"), "utf8");
  expect(text).toContain("https://git.example/me/work.git");
  expect(text).not.toContain("t0ken");
  const again = type("daemon", "--tools", tools);
  expect([again.code, again.said]).toEqual([
    7,
    expect.stringMatching(/is there already\n\s+→ give another --out, or --force/),
  ]);
});

test("what does not go together is told at once", { timeout: 60_000 }, () => {
  const { code, said } = type("train", "--command", "python t.py", "--preset", "rehearsal", "--checkpoints", "out");
  expect(code).toBe(2);
  expect(said).toMatch(/--command\n\s+comes without a repository/);
  expect(said).toMatch(/--preset\n\s+is for tunestack's own training/);
  expect(said).toMatch(/--checkpoints = out\n\s+is in none of the folders that are kept on Drive/);
  expect(existsSync(join(folder, "colab_train.ipynb"))).toBe(false);
});
