import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";

/** A program that ended. */
export interface Ended {
  /** Exit code; 127 where it could not be started, 128 and more where a signal ended it. */
  readonly code: number;
  /** Standard output and error together, in the order written. */
  readonly output: string;
  readonly seconds: number;
}

export interface ChildOptions {
  readonly cwd: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Shows the output while it comes, for what takes minutes. */
  readonly follow?: boolean;
}

const running = new Set<ChildProcess>();
/** Somebody pressed Ctrl-C: nothing is started any more, and nobody is told that what ran has ended. */
let interrupted = false;
const GRACE_MS = 10_000;

/** Runs a program in a process group of its own, so that what it starts ends with it. */
export function runChild(program: string, args: readonly string[], options: ChildOptions): Promise<Ended> {
  const started = Date.now();
  return new Promise((resolve) => {
    if (interrupted) return;
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.environment },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    running.add(child);
    const parts: string[] = [];
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (text: string) => {
        parts.push(text);
        if (options.follow === true) process.stdout.write(text);
      });
    }
    const end = (code: number) => {
      running.delete(child);
      if (!interrupted) resolve({ code, output: parts.join(""), seconds: (Date.now() - started) / 1000 });
    };
    child.on("error", (error) => {
      parts.push(error.message);
      end(127);
    });
    child.on("close", (code, signal) => end(code ?? (signal === null ? 1 : 128)));
  });
}

/** Ends every program that runs, for good: what waits for one of them waits until this process leaves. */
export async function interruptChildren(): Promise<void> {
  interrupted = true;
  await endChildren();
}

/** Ends every program that still runs: asked first, then made to. */
export async function endChildren(): Promise<void> {
  signalAll("SIGTERM");
  const deadline = Date.now() + GRACE_MS;
  while (running.size > 0 && Date.now() < deadline) await sleep(50);
  signalAll("SIGKILL");
}

function signalAll(signal: NodeJS.Signals): void {
  for (const { pid } of running) {
    if (pid === undefined) continue;
    try {
      process.kill(-pid, signal);
    } catch {
      // It has just ended by itself.
    }
  }
}
