import { execFileSync, spawn } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Document } from "yaml";
import { machineError } from "../../../scripts/lib/errors.ts";
import { PROJECT_DIR, PULUMI_HOME } from "../../../scripts/lib/project.ts";
import { isSetUp } from "../../../scripts/lib/stack.ts";

/** Stack, and what stands before every name on the engine, so that nobody's own stack is touched. */
export const STACK = "bench";
export const PREFIX = "bench-";
export const CLONE_NAME = "tunestack-bench-";

/** A copy of the project as it is now, with state and settings of its own. */
export interface Clone {
  readonly folder: string;
  /** Runs a command of package.json in it. @returns its output. */
  readonly npmRun: (name: string, ...args: string[]) => Promise<string>;
  /** Runs the Pulumi CLI in it, or in another folder with the same settings. @returns its output. */
  readonly pulumi: (args: readonly string[], folder?: string) => Promise<string>;
  readonly remove: () => void;
}

/**
 * Copies what git knows and does not ignore. Packages and Pulumi's programs are shared with the project: they are not what
 * is measured.
 */
export async function makeClone(settings: Readonly<Record<string, unknown>>): Promise<Clone> {
  if (!isSetUp()) throw machineError({ path: "this clone", reason: "is not set up yet", remedy: "npm start" });
  const folder = mkdtempSync(join(tmpdir(), CLONE_NAME));
  const listed = execFileSync("git", ["ls-files", "-co", "--exclude-standard", "-z"], {
    cwd: PROJECT_DIR,
    encoding: "utf8",
  });
  for (const file of listed.split("\0")) {
    if (file === "" || !existsSync(join(PROJECT_DIR, file))) continue;
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    cpSync(join(PROJECT_DIR, file), join(folder, file), { dereference: false });
  }
  symlinkSync(join(PROJECT_DIR, "node_modules"), join(folder, "node_modules"));
  const personal = join(folder, ".tunestack");
  mkdirSync(join(personal, "stacks"), { recursive: true, mode: 0o700 });
  symlinkSync(PULUMI_HOME, join(personal, "pulumi-home"));
  const machine = join(PROJECT_DIR, ".tunestack", "machine.json");
  if (existsSync(machine)) copyFileSync(machine, join(personal, "machine.json"));
  const config = Object.fromEntries(Object.entries(settings).map(([key, value]) => [`tunestack:${key}`, value]));
  writeFileSync(join(personal, "stacks", `Pulumi.${STACK}.yaml`), new Document({ config }).toString());
  return {
    folder,
    npmRun: (name, ...args) => run("node", ["scripts/run.mjs", name, "--stack", STACK, ...args], folder),
    pulumi: (args, at) => run("node", [join(folder, "scripts", "pulumi", "pulumi.mjs"), ...args], at ?? folder),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Runs a program to its end; a failure shows what it said. */
export function run(program: string, args: readonly string[], cwd: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
    const said: string[] = [];
    const errors: string[] = [];
    child.stdout.on("data", (data: Buffer) => said.push(data.toString()));
    child.stderr.on("data", (data: Buffer) => errors.push(data.toString()));
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(said.join(""));
      else reject(new Error(`${[program, ...args].join(" ")} ended with ${code}:\n${errors.join("")}${said.join("")}`));
    });
  });
}

/** Seconds that something took. */
export async function seconds(body: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await body();
  return (performance.now() - started) / 1000;
}
