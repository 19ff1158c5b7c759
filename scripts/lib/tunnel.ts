import type { ChildProcess } from "node:child_process";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { machineError } from "./errors.ts";

const POLL_MS = 100;

/** Ends a helper process with this command, however it ends. */
export function endWithThisCommand(child: ChildProcess): void {
  const end = () => void child.kill("SIGTERM");
  process.once("exit", end);
  child.once("exit", () => process.off("exit", end));
}

/**
 * Waits until something on this machine takes connections: a port of 127.0.0.1, or a socket by its path.
 * @param ended tells that whoever should listen is gone.
 * @throws UserError where that happens first.
 */
export async function untilListening(at: number | string, ended: Promise<void>, what: string): Promise<void> {
  let gone = false;
  void ended.then(() => {
    gone = true;
  });
  while (!(await isListening(at))) {
    if (gone) {
      throw machineError({
        path: "tunnel",
        value: what,
        reason: "ended before it was open",
        remedy: "what it said stands above; mend it, then type the same command again",
      });
    }
    await sleep(POLL_MS);
  }
}

function isListening(at: number | string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = typeof at === "number" ? connect(at, "127.0.0.1") : connect(at);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
