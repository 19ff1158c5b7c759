import { spawn } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";

const SETUP = join("scripts", "lib", "setup");

let clone: string;

beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), "tunestack-packages-"));
  for (const folder of [SETUP, "bin", "node_modules"]) mkdirSync(join(clone, folder), { recursive: true });
  cpSync(join(PROJECT_DIR, SETUP, "packages.mjs"), join(clone, SETUP, "packages.mjs"));
  writeFileSync(join(clone, "package-lock.json"), "{}");
  writeFileSync(
    join(clone, "start.mjs"),
    `import { installPackages } from "./scripts/lib/setup/packages.mjs";\nawait installPackages();\n`,
  );
});

afterEach(() => rmSync(clone, { recursive: true, force: true }));

/** Starts the clone with an npm of ours; in it `$0.began` can be touched to say that it is at work. */
function start(npm: string) {
  const program = join(clone, "bin", "npm");
  writeFileSync(program, `#!/bin/sh\n${npm}\n`);
  chmodSync(program, 0o755);
  const environment = { ...process.env, PATH: `${join(clone, "bin")}:${process.env.PATH}` };
  const child = spawn(process.execPath, ["start.mjs"], { cwd: clone, env: environment });
  let said = "";
  child.stderr.on("data", (data: Buffer) => {
    said += data.toString();
  });
  const ended = new Promise<{ code: number | null; said: string }>((resolve) => {
    child.on("close", (code) => resolve({ code, said }));
  });
  return { child, ended };
}

test("packages are installed once for a lock file", async () => {
  expect((await start('echo once >> "$0.runs"').ended).code).toBe(0);
  expect((await start('echo twice >> "$0.runs"').ended).code).toBe(0);
  expect(readFileSync(join(clone, "bin", "npm.runs"), "utf8")).toBe("once\n");
});

test("what npm says is shown where it fails", async () => {
  const { code, said } = await start("echo no such package; exit 1").ended;
  expect(code).toBe(3);
  expect(said).toMatch(/npm ci ended with exit code 1:\nno such package\n {2}→ check the network/);
});

test("an interrupted start ends npm before it ends, though npm goes on after a Ctrl-C", async () => {
  const npm = `trap '' INT; trap 'sleep 1; touch "$0.ended"; exit 143' TERM; touch "$0.began"; while :; do sleep 0.1; done`;
  const { child, ended } = start(npm);
  while (!existsSync(join(clone, "bin", "npm.began"))) await sleep(20);
  child.kill("SIGINT");
  const { code, said } = await ended;
  expect(code).toBe(130);
  expect(said).toContain("interrupted; the same command does it again");
  expect(existsSync(join(clone, "bin", "npm.ended"))).toBe(true);
  expect(existsSync(join(clone, "node_modules", ".tunestack-lock"))).toBe(false);
});

test("an npm that does not end when it is told to is killed", async () => {
  const { child, ended } = start(`trap '' INT TERM; touch "$0.began"; while :; do sleep 0.1; done`);
  while (!existsSync(join(clone, "bin", "npm.began"))) await sleep(20);
  child.kill("SIGINT");
  const { code, said } = await ended;
  expect(code).toBe(130);
  expect(said).toContain("interrupted; the same command does it again");
});
