import { createServer } from "node:net";
import Docker from "dockerode";
import { type Problem, SettingsError } from "../../settings/problems.ts";
import { LABELS } from "./render.ts";

/** A container as far as declaring a stack beside it needs to know it. */
export interface FoundContainer {
  readonly name: string;
  readonly id: string;
  readonly imageId: string;
  readonly running: boolean;
  /** Of a container that ended. */
  readonly exitCode: number | undefined;
  readonly owner: string | undefined;
  readonly run: string | undefined;
  readonly specification: string | undefined;
  readonly hostPorts: readonly number[];
}

export interface EngineState {
  readonly containers: readonly FoundContainer[];
  /** Ports of 127.0.0.1, out of those asked for, that some program other than a container holds. */
  readonly takenPorts: readonly number[];
}

/** Whether the engine is another machine's. */
export function isRemote(host: string | undefined): host is string {
  return host !== undefined && !host.startsWith("unix://");
}

/** Where this machine's own engine listens; the second is the first by its real path. */
const OWN_SOCKETS: readonly string[] = ["/var/run/docker.sock", "/run/docker.sock"];

/** Whether the engine is the one that this machine's own service starts. */
export function isOwn(host: string | undefined): boolean {
  return host === undefined || OWN_SOCKETS.some((socket) => host === `unix://${socket}`);
}

/** A client of the engine that the settings name; without a host, of the local socket. */
export function engineClient(host: string | undefined): Docker {
  if (host === undefined) return new Docker({ socketPath: OWN_SOCKETS[0] });
  if (host.startsWith("unix://")) return new Docker({ socketPath: host.slice("unix://".length) });
  const url = new URL(host);
  const protocol = url.protocol === "ssh:" ? "ssh" : "http";
  return new Docker({
    host: url.hostname,
    protocol,
    ...(url.port === "" ? {} : { port: Number(url.port) }),
    ...(url.username === "" ? {} : { username: url.username }),
  });
}

/**
 * Looks at the engine before anything is registered.
 * @throws SettingsError when the engine does not answer, with what to do.
 */
export async function readEngine(host: string | undefined, ports: readonly number[]): Promise<EngineState> {
  let listed: Docker.ContainerInfo[];
  try {
    listed = await engineClient(host).listContainers({ all: true });
  } catch (error) {
    throw new SettingsError([engineProblem(host, error)], "Docker engine");
  }
  const containers = listed.map(
    (info): FoundContainer => ({
      name: info.Names[0]?.replace(/^\//, "") ?? info.Id,
      id: info.Id,
      imageId: info.ImageID,
      running: info.State === "running" || info.State === "restarting",
      exitCode: exitCodeIn(info.Status),
      owner: info.Labels[LABELS.owner],
      run: info.Labels[LABELS.run],
      specification: info.Labels[LABELS.specification],
      hostPorts: info.Ports.flatMap(({ PublicPort }) => (PublicPort === undefined ? [] : [PublicPort])),
    }),
  );
  const held = new Set(containers.flatMap(({ hostPorts }) => hostPorts));
  const local = !isRemote(host);
  const taken = local ? await Promise.all(ports.filter((port) => !held.has(port)).map(probePort)) : [];
  return { containers, takenPorts: taken.flatMap((port) => (port === undefined ? [] : [port])) };
}

/** The engine's list tells how a container ended in words alone: `Exited (75) 3 minutes ago`. */
function exitCodeIn(status: string): number | undefined {
  const code = /^Exited \((\d+)\)/.exec(status)?.[1];
  return code === undefined ? undefined : Number(code);
}

/** Why the engine does not answer, and what mends it. */
export function engineProblem(host: string | undefined, error: unknown): Problem {
  const at = host ?? OWN_SOCKETS[0];
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (!isOwn(host) && code !== "EACCES") {
    return {
      path: "Docker engine",
      value: at,
      reason: `does not answer: ${error instanceof Error ? error.message : String(error)}`,
      remedy: "check docker.host or DOCKER_HOST, and that an engine runs and listens there",
    };
  }
  switch (code) {
    case "EACCES":
      return {
        path: "Docker engine",
        value: at,
        reason: "you have no right to use it",
        remedy: "sudo usermod -aG docker $USER, then log out and in again; or run the command as root",
      };
    case "ENOENT":
      return {
        path: "Docker engine",
        value: at,
        reason: "there is none: it is not installed or not running",
        remedy: "npm start installs and starts it where it may; else: sudo systemctl start docker",
      };
    case "ECONNREFUSED":
      return {
        path: "Docker engine",
        value: at,
        reason: "it is not running",
        remedy: "npm start starts it where it may; else: sudo systemctl start docker",
      };
    default:
      return {
        path: "Docker engine",
        value: at,
        reason: `does not answer: ${error instanceof Error ? error.message : String(error)}`,
        remedy: "check docker.host and DOCKER_HOST, and that `docker info` works",
      };
  }
}

/** The port itself where something listens on it, undefined where it is free. */
function probePort(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(port));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(undefined)));
  });
}
