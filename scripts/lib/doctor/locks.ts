import { existsSync, readdirSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Stack } from "@pulumi/pulumi/automation/index.js";
import { z } from "zod";
import { lockFolder } from "../file-backend.ts";

const lockSchema = z.object({
  pid: z.number(),
  username: z.string(),
  hostname: z.string(),
  timestamp: z.string(),
});

/** Who holds the stack, as Pulumi's file backend writes it down. */
export type Lock = z.output<typeof lockSchema>;

/** What of this machine decides whether a lock's holder still works. */
export interface Here {
  readonly hostname: string;
  /** Whether a process of this id runs and is Pulumi. */
  readonly runsPulumi: (pid: number) => boolean;
}

/** The locks of a stack; undefined where the state is in a backend whose locks cannot be seen from here. */
export function readLocks(stack: string, folder: string | undefined = lockFolder(stack)): readonly Lock[] | undefined {
  if (folder === undefined) return undefined;
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap((name) => {
    const parsed = lockSchema.safeParse(parseJson(join(folder, name)));
    return parsed.success ? [parsed.data] : [];
  });
}

/** A lock whose holder is gone: its process ran on this machine and is no more. */
export function isStale(lock: Lock, here: Here): boolean {
  return lock.hostname === here.hostname && !here.runsPulumi(lock.pid);
}

/** Whether someone is at work on the stack, or may be: on another machine a process cannot be seen. */
export function isHeld(locks: readonly Lock[], here: Here = thisMachine()): boolean {
  return locks.some((lock) => !isStale(lock, here));
}

/**
 * Takes away the lock that a killed `pulumi up` left; one whose holder is at work stays.
 * @returns the locks that were taken away.
 */
export async function clearStaleLock(stack: Pick<Stack, "name" | "cancel">): Promise<readonly Lock[]> {
  const locks = readLocks(stack.name) ?? [];
  if (locks.length === 0 || isHeld(locks)) return [];
  await stack.cancel();
  return locks;
}

export function thisMachine(): Here {
  return { hostname: hostname(), runsPulumi };
}

function runsPulumi(pid: number): boolean {
  if (existsSync("/proc/self/status")) {
    const status = `/proc/${pid}/status`;
    if (!existsSync(status)) return false;
    const text = readFileSync(status, "utf8");
    // A killed process whose parent does not ask for its end keeps its number, as a zombie.
    return /^Name:\s+pulumi/m.test(text) && !/^State:\s+Z/m.test(text);
  }
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

function parseJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    // Taken away meanwhile, or half written.
    return undefined;
  }
}
