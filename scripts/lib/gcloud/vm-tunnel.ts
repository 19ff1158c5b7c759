import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { UserError } from "../errors.ts";
import { endWithThisCommand } from "../tunnel.ts";
import { explainGcloud } from "./errors.ts";
import { gcloud, MISSING } from "./gcloud.ts";
import { type CloudStack, projectOf, type Vm } from "./vm.ts";

/** The engine's socket on the VM. */
const ENGINE_SOCKET = "/var/run/docker.sock";
/** The VM's end says this once whoever logged in may use what is forwarded. */
const READY = "tunestack-tunnel-open";
const TRIES = 6;
const TRY_AGAIN_MS = 5000;

/** What is forwarded: from a socket or port of this machine to one of the VM's. */
export type Forward =
  | { readonly kind: "engine"; readonly socket: string }
  | { readonly kind: "port"; readonly local: number; readonly remote: number };

/**
 * The arguments of gcloud for a tunnel through Identity-Aware Proxy. On the VM runs `cat`, which ends with its input:
 * however this command ends, the tunnel ends with it. Whoever may administer the VM (OS Login) gets a right to the
 * engine's socket first, which belongs to root.
 */
export function tunnelArguments({ stack, cloud }: CloudStack, vm: Vm, forward: Forward): readonly string[] {
  const right = forward.kind === "engine" ? `sudo -n setfacl -m "u:$(id -un):rw" ${ENGINE_SOCKET} && ` : "";
  const way =
    forward.kind === "engine"
      ? `${forward.socket}:${ENGINE_SOCKET}`
      : `127.0.0.1:${forward.local}:127.0.0.1:${forward.remote}`;
  return [
    ...["compute", "ssh", vm.name, "--zone", vm.zone, "--project", projectOf({ stack, cloud }).project],
    ...["--tunnel-through-iap", "--quiet", "--command", `${right}echo ${READY} && exec cat`],
    ...["--", "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15", "-L", way],
  ];
}

export interface Tunnel {
  readonly ended: Promise<void>;
}

/**
 * Opens a tunnel to the VM; it lives as long as this command.
 * @param retryMs between two tries, in milliseconds; a test does not wait as long.
 * @throws UserError with the command that mends what is in the way.
 */
export async function openTunnel(
  outputs: CloudStack,
  vm: Vm,
  forward: Forward,
  retryMs = TRY_AGAIN_MS,
): Promise<Tunnel> {
  const args = tunnelArguments(outputs, vm, forward);
  for (let attempt = 1; ; attempt += 1) {
    const child = spawn("gcloud", args, { stdio: ["pipe", "pipe", "pipe"] });
    endWithThisCommand(child);
    const opened = await untilReady(child);
    if (opened.ready) return { ended: opened.ended };
    if (attempt === TRIES || !isPassing(opened.said)) throw explain(outputs, args, opened);
    await sleep(retryMs);
  }
}

/** Runs a command on the VM, as whoever is logged in to gcloud. */
export async function runOnVm(outputs: CloudStack, vm: Vm, command: string): Promise<void> {
  const where = ["compute", "ssh", vm.name, "--zone", vm.zone, "--tunnel-through-iap", "--command", command];
  await gcloud(projectOf(outputs), where);
}

/** A VM that has just started takes no logins yet, and a new key is not known there at once. */
function isPassing(said: string): boolean {
  return /4003: 'failed to connect to backend'|Connection closed by|Permission denied \(publickey\)|Connection refused/.test(
    said,
  );
}

type Opened =
  | { readonly ready: true; readonly ended: Promise<void> }
  | { readonly ready: false; readonly exitCode: number; readonly said: string };

async function untilReady(child: ChildProcess): Promise<Opened> {
  let out = "";
  let said = "";
  const ended = new Promise<number>((resolve) => {
    child.once("error", () => resolve(MISSING));
    child.once("close", (code) => resolve(code ?? 1));
  });
  child.stdin?.on("error", () => undefined);
  child.stderr?.on("data", (chunk: Buffer) => {
    said = (said + chunk.toString("utf8")).slice(-8192);
  });
  const ready = new Promise<true>((resolve) => {
    child.stdout?.on("data", (chunk: Buffer) => {
      out = (out + chunk.toString("utf8")).slice(-8192);
      if (out.includes(READY)) resolve(true);
    });
  });
  const first = await Promise.race([ready, ended]);
  if (first === true) return { ready: true, ended: ended.then(() => undefined) };
  return { ready: false, exitCode: first, said };
}

function explain(
  outputs: CloudStack,
  args: readonly string[],
  { exitCode, said }: { readonly exitCode: number; readonly said: string },
): UserError {
  return explainGcloud(projectOf(outputs), args, { exitCode, stderr: said });
}
