import { spawn } from "node:child_process";
import { existsSync, openSync, readFileSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { which } from "zx";
import { engineClient, engineProblem, isOwn } from "../../../stacks/targets/docker/engine.ts";
import { machineError } from "../errors.ts";
import { runQuietly } from "../process.ts";
import type { Report } from "../steps.ts";
import { mayInstall, type System } from "./system.ts";

/** Where an engine that we start ourselves writes what it does. */
const ENGINE_LOG = "/var/log/tunestack-dockerd.log";
const START_SECONDS = 60;

/** What is needed until the engine answers; `stop` says what a person has to type. */
export type EngineStep = "install" | "start-service" | "start-directly" | "stop";

export interface EngineFacts {
  readonly system: System;
  readonly installed: boolean;
  /** Error code of the socket: ENOENT, ECONNREFUSED, EACCES; undefined where it answers. */
  readonly failure: string | undefined;
  /** The engine is one that a person named (DOCKER_HOST): another machine's, or at another socket than this machine's own. */
  readonly named: boolean;
}

/** The steps to a running engine; pure. */
export function engineSteps({ system, installed, failure, named }: EngineFacts): readonly EngineStep[] {
  if (failure === undefined) return [];
  if (named || failure === "EACCES" || !system.root) return ["stop"];
  if (!installed && !mayInstall(system)) return ["stop"];
  const start: EngineStep = system.systemd ? "start-service" : "start-directly";
  return installed ? [start] : ["install", start];
}

/**
 * Brings up a Docker engine where there is none and we may.
 * @returns the engine's version, and whether it had to be started or installed.
 * @throws UserError with the commands to type where we may not.
 */
export async function ensureEngine(
  system: System,
  host: string | undefined,
  report: Report,
): Promise<{ said: string; value: string }> {
  const first = await ping(host);
  if (first.version !== undefined) return { said: `Docker ${first.version}`, value: first.version };
  const installed = (await which("dockerd", { nothrow: true })) !== null;
  const failure = first.failure ?? "unknown";
  const steps = engineSteps({ system, installed, failure, named: !isOwn(host) });
  for (const next of steps) await take(next, { system, installed, error: first.error, host }, report);
  const version = await waitForEngine(host, report);
  return { said: `Docker ${version}, ${installed ? "started" : "installed and started"}`, value: version };
}

interface Attempt {
  readonly system: System;
  readonly installed: boolean;
  readonly error: unknown;
  readonly host: string | undefined;
}

async function take(next: EngineStep, attempt: Attempt, report: Report): Promise<void> {
  switch (next) {
    case "install":
      report("apt-get install docker.io");
      await runQuietly("apt-get", ["update", "--quiet"]);
      await runQuietly("apt-get", ["install", "--yes", "--quiet", "--no-install-recommends", "docker.io", "iptables"], {
        DEBIAN_FRONTEND: "noninteractive",
      });
      return;
    case "start-service":
      report("systemctl start docker");
      await runQuietly("systemctl", ["enable", "--now", "docker"]);
      return;
    case "start-directly":
      report("starting dockerd");
      startDirectly();
      return;
    case "stop":
      throw machineError(stopProblem(attempt));
  }
}

function stopProblem({ system, installed, error, host }: Attempt) {
  const problem = engineProblem(host, error);
  // A socket without rights is a running engine, wherever its program stands.
  if (installed || host !== undefined || failureOf(error) === "EACCES") return problem;
  return { ...problem, remedy: installCommands(system.distribution) };
}

/** What a person types where set-up may not install: as few commands as will do. */
export function installCommands(distribution: string): string {
  switch (distribution) {
    case "debian":
    case "ubuntu":
      return "sudo apt-get update && sudo apt-get install docker.io && sudo usermod -aG docker $USER, then log out and in again, and npm start";
    case "fedora":
      return "sudo dnf install moby-engine && sudo systemctl enable --now docker && sudo usermod -aG docker $USER, then log out and in again, and npm start";
    case "arch":
      return "sudo pacman -S docker && sudo systemctl enable --now docker && sudo usermod -aG docker $USER, then log out and in again, and npm start";
    default:
      return "install Docker Engine as https://docs.docker.com/engine/install/ tells, sudo usermod -aG docker $USER, then log out and in again, and npm start";
  }
}

/** Starts the engine in a session of its own, so that it outlives this command. */
function startDirectly(): void {
  removeStalePidFile("/var/run/docker.pid");
  const log = openSync(ENGINE_LOG, "a");
  const child = spawn("dockerd", [], { detached: true, stdio: ["ignore", log, log] });
  child.on("error", () => undefined);
  child.unref();
}

/** After a crash the pid may belong to another program, and dockerd would refuse to start because of it. */
function removeStalePidFile(file: string): void {
  if (!existsSync(file)) return;
  const pid = readFileSync(file, "utf8").trim();
  const command = `/proc/${pid}/comm`;
  if (!existsSync(command) || readFileSync(command, "utf8").trim() !== "dockerd") rmSync(file, { force: true });
}

async function waitForEngine(host: string | undefined, report: Report): Promise<string> {
  const deadline = Date.now() + START_SECONDS * 1000;
  for (;;) {
    const { version, error } = await ping(host);
    if (version !== undefined) return version;
    if (Date.now() > deadline) {
      const problem = engineProblem(host, error);
      const remedy = existsSync(ENGINE_LOG) ? `read ${ENGINE_LOG}` : problem.remedy;
      throw machineError({ ...problem, reason: `did not answer within ${START_SECONDS} s of its start`, remedy });
    }
    report("waiting for the engine to answer");
    await sleep(500);
  }
}

interface Ping {
  readonly version?: string;
  readonly failure?: string;
  readonly error?: unknown;
}

async function ping(host: string | undefined): Promise<Ping> {
  try {
    const { Version } = await engineClient(host).version();
    return { version: Version };
  } catch (error) {
    return { failure: failureOf(error), error };
  }
}

/** Error code of a socket, such as ENOENT. */
function failureOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "unknown";
}
