import { createHash } from "node:crypto";
import type * as docker from "@pulumi/docker";
import type { Input } from "@pulumi/pulumi";
import type { ImageReference, Mount, VolumeName, Workload, WorkloadName } from "../../plan/types.ts";

/** What is known only when resources are registered; a test answers with plain strings. */
export interface Resolver {
  readonly image: (reference: ImageReference) => Input<string>;
  readonly volume: (name: VolumeName) => Input<string>;
  /** `NAME=value` for a container's environment, of a value that is known late. */
  readonly variable: (name: string, value: Input<string>) => Input<string>;
}

export interface Naming {
  /** Stands before every name on the engine; empty or ending in a hyphen. */
  readonly prefix: string;
  /** Whose containers these are: stack and project folder. */
  readonly owner: string;
}

/** Labels by which the project finds its own containers again. */
export const LABELS = {
  owner: "dev.tunestack.owner",
  service: "dev.tunestack.service",
  run: "dev.tunestack.run",
  /** Hash of all that a run was asked to do, its image apart. */
  specification: "dev.tunestack.specification",
} as const;

export function containerName({ prefix }: Pick<Naming, "prefix">, workload: WorkloadName): string {
  return `${prefix}agent-${workload}`;
}

export function volumeName({ prefix }: Pick<Naming, "prefix">, volume: VolumeName): string {
  return `${prefix}${volume}`;
}

export function networkName({ prefix }: Pick<Naming, "prefix">): string {
  return `${prefix}tunestack`;
}

export function ownerOf(stack: string, projectDir: string): string {
  return `${stack}@${projectDir}`;
}

/** A short hash of what a workload was asked to do; a new image alone leaves it as it is, and so does who it may reach. */
export function specificationOf(workload: Workload): string {
  const { image: _, reaches: __, ...asked } = workload;
  return createHash("sha256").update(JSON.stringify(asked)).digest("hex").slice(0, 16);
}

const MIB = 2 ** 20;

/** A long-lived service as the Docker provider's arguments. */
export function renderService(workload: Workload, naming: Naming, resolve: Resolver): docker.ContainerArgs {
  return {
    ...renderWorkload(workload, naming, resolve, {}),
    restart: workload.restart,
    mustRun: true,
  };
}

/** A run: it may exit, and stays where it is, its logs readable. */
export function renderRun(workload: Workload, run: string, naming: Naming, resolve: Resolver): docker.ContainerArgs {
  const labels = { [LABELS.run]: run, [LABELS.specification]: specificationOf(workload) };
  const image = resolve.image(workload.image);
  return {
    ...renderWorkload(workload, naming, resolve, labels),
    // A container cannot know its image by itself, and a run writes down what it was made with.
    envs: [...environmentOf(workload), resolve.variable("TUNESTACK_IMAGE_DIGEST", image)],
    restart: workload.restart,
    // A crash is resumed from the newest checkpoint; a mistake fails the same way each time.
    maxRetryCount: 2,
    mustRun: false,
  };
}

function renderWorkload(
  workload: Workload,
  naming: Naming,
  resolve: Resolver,
  labels: Readonly<Record<string, string>>,
): docker.ContainerArgs {
  return {
    name: containerName(naming, workload.name),
    image: resolve.image(workload.image),
    ...(workload.command === undefined ? {} : { command: [...workload.command] }),
    envs: environmentOf(workload),
    labels: renderLabels({ ...labels, [LABELS.owner]: naming.owner, [LABELS.service]: workload.name }),
    mounts: workload.mounts.map((mount) => renderMount(mount, resolve)),
    ports: workload.ports.map(({ container, host }) => ({
      internal: container,
      external: host,
      ip: "127.0.0.1",
      protocol: "tcp",
    })),
    networksAdvanced: [{ name: networkName(naming), aliases: [workload.name] }],
    healthcheck: renderHealth(workload),
    logDriver: "json-file",
    logOpts: { "max-size": "10m", "max-file": "3" },
    ...renderLimits(workload),
    ...renderHardening(workload),
  };
}

function environmentOf(workload: Workload): string[] {
  return Object.entries(workload.environment)
    .map(([key, value]) => `${key}=${value}`)
    .sort();
}

function renderLabels(labels: Readonly<Record<string, string>>): { label: string; value: string }[] {
  return Object.entries(labels)
    .map(([label, value]) => ({ label, value }))
    .sort((a, b) => (a.label < b.label ? -1 : 1));
}

function renderMount(
  mount: Mount,
  resolve: Resolver,
): { type: string; source: Input<string>; target: string; readOnly: boolean } {
  switch (mount.kind) {
    case "volume":
      return { type: "volume", source: resolve.volume(mount.volume), target: mount.path, readOnly: mount.readOnly };
    case "host":
    case "secret":
      return { type: "bind", source: mount.source, target: mount.path, readOnly: true };
  }
}

function renderHealth({ health }: Workload) {
  return {
    tests: ["CMD", ...health.command],
    interval: `${health.intervalSeconds}s`,
    timeout: `${health.timeoutSeconds}s`,
    startPeriod: goDuration(health.startSeconds),
    retries: health.retries,
  };
}

/** The engine gives durations back in Go's notation; the same text shows no difference. */
function goDuration(seconds: number): string {
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  const rest = `${seconds % 60}s`;
  if (hours > 0) return `${hours}h${minutes}m${rest}`;
  return minutes > 0 ? `${minutes}m${rest}` : rest;
}

function renderLimits(workload: Workload): Partial<docker.ContainerArgs> {
  return {
    ...(workload.memoryBytes === undefined ? {} : renderMemory(workload.memoryBytes)),
    ...(workload.sharedMemoryBytes === undefined ? {} : { shmSize: Math.floor(workload.sharedMemoryBytes / MIB) }),
    // The provider has no limit of processes per container; the kernel's limit per user stands in for it.
    ulimits: [{ name: "nproc", soft: workload.processLimit, hard: workload.processLimit }],
    ...(workload.gpu === "none" ? {} : { gpus: "all" }),
    stopTimeout: workload.stopGraceSeconds,
    destroyGraceSeconds: workload.stopGraceSeconds,
  };
}

/** No swap on top: what outgrows its limit ends with a clear reason and does not slow the machine down. */
function renderMemory(bytes: number): Pick<docker.ContainerArgs, "memory" | "memorySwap"> {
  const memory = Math.floor(bytes / MIB);
  return { memory, memorySwap: memory };
}

function renderHardening(workload: Workload): Partial<docker.ContainerArgs> {
  const owner = workload.user === undefined ? "" : `,uid=${workload.user.replace(":", ",gid=")}`;
  return {
    ...(workload.user === undefined ? {} : { user: workload.user }),
    readOnly: workload.readOnly,
    tmpfs: Object.fromEntries(
      workload.scratch.map(({ path, bytes }) => [
        path,
        path === "/tmp" ? `rw,nosuid,nodev,size=${bytes},mode=1777` : `rw,nosuid,nodev,size=${bytes},mode=0700${owner}`,
      ]),
    ),
    capabilities: { drops: ["ALL"] },
    securityOpts: ["no-new-privileges:true"],
    // Reaps what the service leaves behind and hands signals on.
    init: true,
  };
}
