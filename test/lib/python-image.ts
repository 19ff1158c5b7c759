import { join } from "node:path";
import { buildCommand } from "../../scripts/lib/build.ts";
import { PROJECT_DIR, pulumiEnvironment } from "../../scripts/lib/project.ts";
import type { ImagePlan } from "../../stacks/plan/types.ts";
import { type Ended, runChild } from "./children.ts";

const TAG = "tunestack-test/python";
const PACKAGE_DIR = join(PROJECT_DIR, "images", "qlora");

export async function buildPythonImage(image: ImagePlan): Promise<Ended> {
  return await docker(buildCommand(image, "test", ["--load", "--tag", TAG]));
}

export interface ContainerOptions {
  /** Folders and files of this machine by their path in the container, read-only. */
  readonly mounts?: Readonly<Record<string, string>>;
  /** Folder of this machine that the container may write to, as /out. */
  readonly out?: string;
  readonly network: boolean;
}

/** Runs a program in the test image: the package at /package, read-only, what caches write in memory. */
export async function inPythonImage(command: readonly string[], options: ContainerOptions): Promise<Ended> {
  const mounts = {
    "/package": PACKAGE_DIR,
    "/examples": join(PROJECT_DIR, "examples"),
    "/docs": join(PROJECT_DIR, "docs"),
    "/schemas": join(PROJECT_DIR, "schemas"),
    "/notebooks": join(PROJECT_DIR, "test", "golden", "notebooks"),
    ...options.mounts,
  };
  return await docker([
    ...["run", "--rm", "--init", "--read-only", "--cap-drop", "ALL", "--shm-size", "1g"],
    // The fake driver library of the tests is built there and loaded from there.
    ...["--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777"],
    ...["--tmpfs", `${SMALL_DISK}:rw,nosuid,nodev,size=9m,mode=1777`],
    ...["--tmpfs", "/home/tunestack:rw,nosuid,nodev,uid=1000,gid=1000,mode=0700"],
    ...Object.entries(mounts).flatMap(([path, source]) => ["--volume", `${source}:${path}:ro`]),
    ...(options.out === undefined ? [] : ["--volume", `${options.out}:/out`]),
    ...(options.network ? [] : ["--network", "none"]),
    ...Object.entries(ENVIRONMENT).flatMap(([name, value]) => ["--env", `${name}=${value}`]),
    TAG,
    ...command,
  ]);
}

/** A disk that a test fills. */
const SMALL_DISK = "/small-disk";

const ENVIRONMENT = {
  // Two processes of pytest share two cores; more threads in each only wait for one another.
  OMP_NUM_THREADS: "1",
  TUNESTACK_TEST_SMALL_DISK: SMALL_DISK,
  TUNESTACK_NOTEBOOKS: "/notebooks",
  TUNESTACK_SCHEMAS: "/schemas",
  RUFF_CACHE_DIR: "/tmp/ruff",
  MYPY_CACHE_DIR: "/tmp/mypy",
  HYPOTHESIS_STORAGE_DIRECTORY: "/tmp/hypothesis",
  UV_CACHE_DIR: "/tmp/uv",
  UV_NO_PROGRESS: "1",
};

async function docker(args: readonly string[]): Promise<Ended> {
  return await runChild("docker", args, { cwd: PROJECT_DIR, environment: pulumiEnvironment(process.env) });
}
