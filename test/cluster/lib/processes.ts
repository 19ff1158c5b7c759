import { type ChildProcess, spawn } from "node:child_process";
import { openSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CACHE_DIR } from "../../../scripts/lib/project.ts";

const PREFIX = "tunestack-cluster-";
const OWNER = "owner";
const LOG_LINES = 15;
/** The programs are written in Go, and a good part of their work is their garbage: it may grow while there is memory. */
const GARBAGE = { GOGC: "400", GOMEMLIMIT: "4GiB" };

/** Programs that run side by side, with a folder of their own for what they write. */
export class Processes {
  readonly folder: string;
  private readonly running = new Map<string, ChildProcess>();
  private readonly endAll = () => this.signal("SIGKILL");

  private constructor(folder: string) {
    this.folder = folder;
    process.once("exit", this.endAll);
  }

  /** A fresh folder; what earlier ones left whose owner was killed is ended and removed first. */
  static async make(root = tmpdir()): Promise<Processes> {
    sweep(root);
    const folder = await mkdtemp(join(root, PREFIX));
    writeFileSync(join(folder, OWNER), `${process.pid} ${startOf(process.pid)}`);
    return new Processes(folder);
  }

  /**
   * Starts a program.
   * @param args one of them has to name the folder: by it a later run finds what this one left.
   */
  start(
    name: string,
    program: string,
    args: readonly string[],
    environment: Readonly<Record<string, string>> = {},
  ): void {
    if (!args.some((argument) => argument.includes(this.folder)))
      throw new Error(`${name}: no argument names its folder`);
    const log = openSync(this.logOf(name), "a");
    const child = spawn(program, args, {
      env: { ...process.env, ...GARBAGE, ...environment },
      stdio: ["ignore", log, log],
    });
    this.running.set(name, child);
  }

  /** Waits until a probe says yes. Fails at once when the program has ended, and tells what it wrote last. */
  async until(name: string, probe: () => Promise<boolean>, limitMs = 120_000): Promise<void> {
    const deadline = Date.now() + limitMs;
    while (!(await probe().catch(() => false))) {
      const child = this.running.get(name);
      const ended = child === undefined || child.exitCode !== null || child.signalCode !== null;
      if (ended || Date.now() > deadline) {
        const what = ended ? `${name} ended while it started` : `${name} was not ready within ${limitMs / 1000} s`;
        throw new Error(`${what}; its last lines:\n${this.lastLines(name)}`);
      }
      await sleep(100);
    }
  }

  /** Ends one program, as when its machine is lost, and waits until it is gone. */
  async kill(name: string): Promise<void> {
    const child = this.running.get(name);
    if (child === undefined) throw new Error(`${name} was not started`);
    child.kill("SIGKILL");
    while (child.exitCode === null && child.signalCode === null) await sleep(20);
    this.running.delete(name);
  }

  /** Ends every program and removes the folder. */
  async stop(): Promise<void> {
    this.signal("SIGKILL");
    const children = [...this.running.values()];
    while (children.some((child) => child.exitCode === null && child.signalCode === null)) await sleep(20);
    process.off("exit", this.endAll);
    rmSync(this.folder, { recursive: true, force: true });
  }

  logOf(name: string): string {
    return join(this.folder, `${name}.log`);
  }

  private lastLines(name: string): string {
    return readFileSync(this.logOf(name), "utf8").trimEnd().split("\n").slice(-LOG_LINES).join("\n");
  }

  private signal(signal: NodeJS.Signals): void {
    for (const child of this.running.values()) child.kill(signal);
  }
}

/** Ends and removes what a killed run left. */
export function sweep(root = tmpdir()): void {
  for (const name of readdirSync(root)) {
    if (!name.startsWith(PREFIX)) continue;
    const folder = join(root, name);
    if (isOwned(folder)) continue;
    for (const pid of processesOf(folder)) end(pid);
    rmSync(folder, { recursive: true, force: true });
  }
}

function isOwned(folder: string): boolean {
  const [pid, start] = read(join(folder, OWNER)).split(" ");
  return start !== undefined && startOf(Number(pid)) === start;
}

/** Programs with an argument that lies in the folder: every one that is started here has one. */
function processesOf(folder: string): readonly number[] {
  const numbers = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return numbers.map(Number).filter((pid) => read(`/proc/${pid}/cmdline`).includes(`${folder}/`) && isBuiltHere(pid));
}

/** A person may look at the folder with a shell or an editor; only what was built for the tests is ended. */
function isBuiltHere(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`).includes(`${CACHE_DIR}/`);
  } catch {
    return false;
  }
}

function end(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has just ended by itself.
  }
}

/** When a process started, in clock ticks since boot: with the number it names a process for good. */
function startOf(pid: number): string {
  return read(`/proc/${pid}/stat`).split(") ").at(-1)?.split(" ")[19] ?? "gone";
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
