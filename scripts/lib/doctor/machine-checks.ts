import type { Problem } from "../../../stacks/settings/problems.ts";
import { formatBytes } from "../../../stacks/settings/units.ts";
import { type GpuFacts, toolkitCommands } from "../setup/gpu.ts";
import { type Check, fail, fromProblem, ok, warn } from "./check.ts";

const GIB = 2 ** 30;

/** Oldest engine that the project was tried with; 20.10 brought the BuildKit that the image is built by. */
const OLDEST_ENGINE = [20, 10] as const;
/** Room that the images with their packages and the build cache take (15 GB measured: docs/experiments.md). */
const BUILD_BYTES = 18 * GIB;
/** Room that a run and its snapshots should find beside the images. */
const RUN_BYTES = 5 * GIB;
/** Below this a checkpoint of a small model may not be saved. */
const LEAST_BYTES = GIB;
/** What the rehearsal and its services were seen to use together. */
const LEAST_MEMORY = 4 * GIB;

/** The way from an NVIDIA GPU into a container. */
export function gpuCheck({ driver, toolkit }: GpuFacts, accelerator: "auto" | "cuda" | "cpu"): Check {
  if (accelerator === "cpu") return ok("GPU", "not used: tunestack:accelerator is cpu");
  if (driver === undefined) {
    const said = "no NVIDIA driver";
    if (accelerator === "auto")
      return warn("GPU", `${said}: runs are on the CPU`, "with an NVIDIA GPU install its driver, then npm start");
    return fail(
      "GPU",
      `${said}, and tunestack:accelerator is cuda`,
      "install the driver, or: npx pulumi config set tunestack:accelerator auto",
    );
  }
  if (toolkit) return ok("GPU", `driver ${driver}, container toolkit`);
  return fail(
    "GPU",
    `driver ${driver}; containers cannot use it without nvidia-container-toolkit`,
    toolkitCommands().join(" && "),
    "set-up",
  );
}

export type EngineFacts =
  | { readonly problem: Problem }
  | { readonly version: string; readonly at: string; readonly storage: string };

export function engineCheck(engine: EngineFacts): Check {
  if ("problem" in engine) return fromProblem(engine.problem, "set-up");
  const [major = 0, minor = 0] = engine.version.split(".").map(Number);
  const said = `Docker ${engine.version} at ${engine.at}, ${engine.storage}`;
  const old = major < OLDEST_ENGINE[0] || (major === OLDEST_ENGINE[0] && minor < OLDEST_ENGINE[1]);
  return old
    ? fail("Docker engine", `${said}: too old`, `update it to ${OLDEST_ENGINE.join(".")} or later`)
    : ok("Docker engine", said);
}

export function buildxCheck(path: string | undefined): Check {
  return path === undefined
    ? fail(
        "buildx",
        "there is none, and it builds the image",
        "npm start makes one; or apt-get install docker-buildx",
        "set-up",
      )
    : ok("buildx", path);
}

export interface DiskFacts {
  /** The engine's data root. */
  readonly folder: string;
  readonly freeBytes: number;
  /** The stack's images are built already. */
  readonly imagesThere: boolean;
}

export function diskCheck({ folder, freeBytes, imagesThere }: DiskFacts): Check {
  const said = `${formatBytes(freeBytes)} free in ${folder}`;
  const remedy = "free some: docker image prune, docker builder prune; or move the engine's data-root to a larger disk";
  if (!imagesThere && freeBytes < BUILD_BYTES)
    return fail("disk", `${said}; building the images takes ${formatBytes(BUILD_BYTES)}`, remedy);
  if (freeBytes < LEAST_BYTES) return fail("disk", `${said}; a checkpoint may not fit`, remedy);
  if (freeBytes < RUN_BYTES) return warn("disk", `${said}; little for checkpoints and snapshots`, remedy);
  return ok("disk", said);
}

export function memoryCheck({
  totalBytes,
  availableBytes,
}: {
  readonly totalBytes: number;
  readonly availableBytes: number;
}): Check {
  const said = `${formatBytes(availableBytes)} of ${formatBytes(totalBytes)} available`;
  return availableBytes < LEAST_MEMORY
    ? warn(
        "memory",
        `${said}; a run takes ${formatBytes(LEAST_MEMORY)} or more`,
        "end what else uses memory, or add swap",
      )
    : ok("memory", said);
}

/** Shared memory is memory: a data loader that fills more of it than there is ends the run. */
export function sharedMemoryCheck({
  wantedBytes,
  totalBytes,
}: {
  readonly wantedBytes: number;
  readonly totalBytes: number;
}): Check {
  const said = `${formatBytes(wantedBytes)} for data loaders`;
  return wantedBytes > totalBytes / 2
    ? warn(
        "shared memory",
        `${said} is more than half of the ${formatBytes(totalBytes)} there is`,
        `npx pulumi config set --path tunestack:training.sharedMemory ${Math.max(1, Math.floor(totalBytes / 4 / GIB))}GiB`,
      )
    : ok("shared memory", said);
}
