import { existsSync, readFileSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { homedir, totalmem } from "node:os";
import { join } from "node:path";
import type Docker from "dockerode";
import { parseDocument } from "yaml";
import { findDockerPlugin } from "../../../offline/buildx.ts";
import { cliFolder, versions } from "../../../offline/setup.ts";
import { engineSettings } from "../../../stacks/settings/engine.ts";
import { personalStackFile, type StackInputs } from "../../../stacks/settings/load.ts";
import { engineProblem, isRemote } from "../../../stacks/targets/docker/engine.ts";
import { PASSPHRASE_FILE, PROJECT_DIR, PULUMI_HOME } from "../project.ts";
import type { DiskFacts, EngineFacts } from "./machine-checks.ts";
import type { PassphraseFacts, ProgramFacts } from "./pulumi-checks.ts";

export interface Engine {
  readonly facts: EngineFacts;
  /** Where the engine keeps images and volumes; undefined where it does not answer. */
  readonly dataRoot: string | undefined;
}

export async function readEngineFacts(client: Docker, host: string | undefined): Promise<Engine> {
  try {
    const [{ Version }, info] = await Promise.all([client.version(), client.info()]);
    const at = host ?? "/var/run/docker.sock";
    const { Driver, DockerRootDir } = info as { Driver?: string; DockerRootDir?: string };
    return { facts: { version: Version, at, storage: Driver ?? "unknown storage" }, dataRoot: DockerRootDir };
  } catch (error) {
    return { facts: { problem: engineProblem(host, error) }, dataRoot: undefined };
  }
}

/** Room of the engine's disk; undefined for an engine on another machine. */
export async function readDisk(
  dataRoot: string | undefined,
  host: string | undefined,
  imagesThere: boolean,
): Promise<DiskFacts | undefined> {
  if (isRemote(host)) return undefined;
  const folder = dataRoot !== undefined && existsSync(dataRoot) ? dataRoot : "/";
  const { bavail, bsize } = await statfs(folder);
  return { folder, freeBytes: bavail * bsize, imagesThere };
}

/** Whether the image of a stack's runs was built before. */
export async function hasTrainingImage(client: Docker, inputs: StackInputs): Promise<boolean> {
  return await client
    .getImage(`tunestack/${engineSettings(inputs).prefix}training:${inputs.stack}`)
    .inspect()
    .then(() => true)
    .catch(() => false);
}

/** Total and available memory; where the kernel does not tell what is available, that is all. */
export function readMemory(): { readonly totalBytes: number; readonly availableBytes: number } {
  const totalBytes = totalmem();
  const text = existsSync("/proc/meminfo") ? readFileSync("/proc/meminfo", "utf8") : "";
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(text)?.[1];
  return { totalBytes, availableBytes: available === undefined ? totalBytes : Number(available) * 1024 };
}

export async function readBuildx(): Promise<string | undefined> {
  const own = join(PULUMI_HOME, "docker-config");
  return (
    (await findDockerPlugin("docker-buildx", process.env.DOCKER_CONFIG ?? join(homedir(), ".docker"))) ??
    (await findDockerPlugin("docker-buildx", own))
  );
}

/** The programs of Pulumi that set-up brings; a mark beside one tells that it was made here. */
export function readPrograms(): readonly ProgramFacts[] {
  const plugin = (name: string, version: string) =>
    join(PULUMI_HOME, "plugins", `resource-${name}-v${version}`, `pulumi-resource-${name}`);
  const programs = [
    { title: "Pulumi CLI", path: join(cliFolder(PULUMI_HOME), "pulumi") },
    { title: "Node language host", path: join(cliFolder(PULUMI_HOME), "pulumi-language-nodejs") },
    { title: "plugin docker-build", path: plugin("docker-build", versions.dockerBuildPlugin) },
    { title: "plugin docker", path: plugin("docker", versions.dockerPlugin) },
  ];
  return programs.map(({ title, path }) => ({
    title,
    path,
    there: existsSync(path),
    madeHere: existsSync(`${path}.recipe`),
  }));
}

/** The passphrase that Pulumi will take: what a person set stands above the project's own file. */
export function readPassphrase(stack: string): PassphraseFacts {
  const salt = readSalt(stack);
  const given = process.env.PULUMI_CONFIG_PASSPHRASE;
  if (given !== undefined) return { source: "PULUMI_CONFIG_PASSPHRASE", passphrase: given, salt };
  const file = process.env.PULUMI_CONFIG_PASSPHRASE_FILE ?? PASSPHRASE_FILE;
  const passphrase = existsSync(file) ? readFileSync(file, "utf8").trim() : undefined;
  return { source: file === PASSPHRASE_FILE ? ".tunestack/passphrase" : file, passphrase, salt };
}

function readSalt(stack: string): string | undefined {
  const file = personalStackFile(PROJECT_DIR, stack);
  if (!existsSync(file)) return undefined;
  const salt: unknown = parseDocument(readFileSync(file, "utf8")).get("encryptionsalt");
  return typeof salt === "string" ? salt : undefined;
}
