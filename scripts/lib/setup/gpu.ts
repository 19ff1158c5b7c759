import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { which } from "zx";
import { machineError } from "../errors.ts";
import { runQuietly } from "../process.ts";
import type { Report } from "../steps.ts";
import { mayInstall, type System } from "./system.ts";

/** What stands between a GPU and a container. */
export interface GpuFacts {
  /** Version of NVIDIA's kernel driver; undefined without one. */
  readonly driver: string | undefined;
  /** nvidia-container-toolkit is installed, so that the engine can hand GPUs to containers. */
  readonly toolkit: boolean;
}

const DRIVER_VERSION = "/proc/driver/nvidia/version";
/** WSL offers the GPU by this device, its driver being Windows'. */
const WSL_DEVICE = "/dev/dxg";

/** NVIDIA's own package repository; see "Installing the NVIDIA Container Toolkit" in NVIDIA's documentation. */
const REPOSITORY = "https://nvidia.github.io/libnvidia-container";
const KEYRING = "/usr/share/keyrings/nvidia-container-toolkit.asc";
const SOURCES = "/etc/apt/sources.list.d/nvidia-container-toolkit.list";

export async function readGpu(): Promise<GpuFacts> {
  const toolkit =
    (await which("nvidia-container-runtime-hook", { nothrow: true })) ?? (await which("nvidia-ctk", { nothrow: true }));
  return { driver: readDriver(), toolkit: toolkit !== null };
}

function readDriver(): string | undefined {
  if (existsSync(DRIVER_VERSION)) return driverVersion(readFileSync(DRIVER_VERSION, "utf8"));
  return existsSync(WSL_DEVICE) && existsSync("/usr/lib/wsl/lib/libcuda.so.1") ? "WSL" : undefined;
}

/** The version in the kernel module's own words: `NVRM version: NVIDIA UNIX x86_64 Kernel Module  560.35.03  …`. */
export function driverVersion(text: string): string | undefined {
  return /Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)/.exec(text)?.[1];
}

/**
 * Makes an NVIDIA GPU usable in containers, where there is one.
 * @throws UserError with the commands to type where the toolkit is missing and we may not install it.
 */
export async function ensureGpu(system: System, report: Report): Promise<{ said: string; value: "cuda" | "cpu" }> {
  const { driver, toolkit } = await readGpu();
  if (driver === undefined) return { said: "no NVIDIA driver: the stack runs on the CPU", value: "cpu" };
  if (toolkit) return { said: `driver ${driver}, container toolkit`, value: "cuda" };
  if (!mayInstall(system)) {
    throw machineError({
      path: "NVIDIA GPU",
      value: `driver ${driver}`,
      reason: "containers cannot use it: nvidia-container-toolkit is missing",
      remedy: `${toolkitCommands().join(" && ")} — or train on the CPU: npx pulumi config set tunestack:accelerator cpu`,
    });
  }
  await installToolkit(system, report);
  return { said: `driver ${driver}, container toolkit installed`, value: "cuda" };
}

/** What a person types on Debian or Ubuntu to have the toolkit. */
export function toolkitCommands(): readonly string[] {
  return [
    `curl -fsSL ${REPOSITORY}/gpgkey | sudo tee ${KEYRING} >/dev/null`,
    `echo '${sourceLine()}' | sudo tee ${SOURCES}`,
    "sudo apt-get update",
    "sudo apt-get install nvidia-container-toolkit",
    "sudo nvidia-ctk runtime configure --runtime=docker",
    "sudo systemctl restart docker",
  ];
}

function sourceLine(): string {
  return `deb [signed-by=${KEYRING}] ${REPOSITORY}/stable/deb/$(ARCH) /`;
}

async function installToolkit(system: System, report: Report): Promise<void> {
  report("installing nvidia-container-toolkit");
  writeFileSync(KEYRING, await fetchKey());
  writeFileSync(SOURCES, `${sourceLine()}\n`);
  await runQuietly("apt-get", ["update", "--quiet"]);
  await runQuietly("apt-get", ["install", "--yes", "--quiet", "nvidia-container-toolkit"], {
    DEBIAN_FRONTEND: "noninteractive",
  });
  await runQuietly("nvidia-ctk", ["runtime", "configure", "--runtime=docker"]);
  if (system.systemd) await runQuietly("systemctl", ["restart", "docker"]);
}

async function fetchKey(): Promise<string> {
  const address = `${REPOSITORY}/gpgkey`;
  try {
    const answer = await fetch(address);
    if (answer.ok) return await answer.text();
    throw new Error(`HTTP ${answer.status}`);
  } catch (error) {
    throw machineError({
      path: "nvidia-container-toolkit",
      value: address,
      reason: `cannot be fetched: ${error instanceof Error ? error.message : String(error)}`,
      remedy:
        "give this machine access to NVIDIA's repository, or train on the CPU: npx pulumi config set tunestack:accelerator cpu",
    });
  }
}
