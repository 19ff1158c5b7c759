import { type ChildProcess, spawn } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { NodeOptions } from "./options.ts";

/** What the engine asks to be run. */
export interface ProgramRun {
  readonly engine: string;
  readonly monitor: string;
  readonly organization: string;
  readonly project: string;
  readonly stack: string;
  readonly rootFolder: string;
  readonly programFolder: string;
  readonly entryPoint: string;
  readonly dryRun: boolean;
  readonly parallel: number;
  readonly arguments: readonly string[];
  readonly config: ReadonlyMap<string, string>;
  readonly secretKeys: readonly string[];
}

export interface ProgramResult {
  /** Empty when all went well or when the program has already told the person. */
  readonly error: string;
  readonly bail: boolean;
}

/** Exit status of the runner when the person has already been told what is wrong. */
const toldAlready = 32;
const graceMs = 5000;

/** The runner reads config keys as `namespace:config:name`, the form of old engines, and does so in every version. */
export function runnerConfig(config: ReadonlyMap<string, string>): string {
  const entries = [...config].map(([key, value]) => {
    const colon = key.indexOf(":");
    if (colon < 0) throw new Error(`config key ${key} has no namespace`);
    const name = key.slice(colon + 1);
    return [`${key.slice(0, colon)}:config:${name.startsWith("config:") ? name.slice(7) : name}`, value] as const;
  });
  return JSON.stringify(Object.fromEntries(entries));
}

export function runnerArguments(run: ProgramRun): readonly string[] {
  const named = (name: string, value: string) => (value === "" ? [] : [`--${name}`, value]);
  return [
    ...named("monitor", run.monitor),
    ...named("engine", run.engine),
    ...named("organization", run.organization),
    ...named("project", run.project),
    ...named("root-directory", run.rootFolder),
    ...named("stack", run.stack),
    ...named("pwd", run.programFolder),
    ...(run.dryRun ? ["--dry-run"] : []),
    ...named("parallel", String(run.parallel)),
    run.entryPoint,
    ...run.arguments,
  ];
}

export function runnerEnvironment(run: ProgramRun, options: NodeOptions): NodeJS.ProcessEnv {
  return {
    PULUMI_CONFIG: runnerConfig(run.config),
    PULUMI_CONFIG_SECRET_KEYS: JSON.stringify(run.secretKeys),
    ...(options.typescript ? { PULUMI_NODEJS_TYPESCRIPT: "true" } : {}),
    ...(options.tsconfig === undefined ? {} : { PULUMI_NODEJS_TSCONFIG_PATH: options.tsconfig }),
  };
}

function findRunner(programFolder: string): string | undefined {
  try {
    return createRequire(join(programFolder, "package.json")).resolve("@pulumi/pulumi/cmd/run");
  } catch {
    return undefined;
  }
}

const running = new Set<ChildProcess>();

/** Stops every program that is running: politely, then by force. */
export function cancelPrograms(): void {
  for (const child of running) {
    child.kill("SIGINT");
    setTimeout(() => child.kill("SIGKILL"), graceMs).unref();
  }
}

/** For the end of this process, when nobody is left to wait. */
export function killPrograms(): void {
  for (const child of running) child.kill("SIGKILL");
}

function outOfMemory(line: string): boolean {
  return line.includes("JavaScript heap out of memory");
}

/**
 * Runs the program by Pulumi's own runner. What it prints goes through to the engine as it comes: standard output and
 * error of a language host are shown to the person.
 */
export function runProgram(run: ProgramRun, options: NodeOptions): Promise<ProgramResult> {
  const runner = findRunner(run.programFolder);
  if (runner === undefined) {
    const error = `@pulumi/pulumi is not installed in ${run.programFolder}: run npm ci there`;
    return Promise.resolve({ error, bail: false });
  }
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...options.nodeArguments, runner, ...runnerArguments(run)], {
      cwd: process.cwd(),
      env: { ...process.env, ...runnerEnvironment(run, options) },
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.add(child);
    let starved = false;
    child.stdout.pipe(process.stdout, { end: false });
    child.stderr.on("data", (chunk: Buffer) => {
      starved ||= outOfMemory(chunk.toString("utf8"));
      process.stderr.write(chunk);
    });
    child.on("error", (error) => {
      running.delete(child);
      resolve({ error: `Node could not be started: ${error.message}`, bail: false });
    });
    child.on("close", (code, signal) => {
      running.delete(child);
      if (code === 0) return resolve({ error: "", bail: false });
      if (code === toldAlready) return resolve({ error: "", bail: true });
      const how = code === null ? `was ended by ${signal ?? "a signal"}` : `exited with non-zero exit code: ${code}`;
      const remedy = starved ? ". It ran out of memory: set NODE_OPTIONS=--max-old-space-size=4096 or more" : "";
      resolve({ error: `Program ${how}${remedy}`, bail: false });
    });
  });
}
