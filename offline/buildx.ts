import { mkdir, readFile, readlink, rm, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { exists, place } from "./cache.ts";
import { isCurrent, markMade } from "./marks.ts";

export interface Buildx {
  readonly path: string;
  /** The value that DOCKER_CONFIG must have for this buildx to be found; undefined when none is needed. */
  readonly dockerConfig: string | undefined;
  readonly origin: "present" | "built";
}

/** Where Docker's programs look for plugins of its command line, apart from the configuration folder. */
const systemFolders = [
  "/usr/local/lib/docker/cli-plugins",
  "/usr/local/libexec/docker/cli-plugins",
  "/usr/lib/docker/cli-plugins",
  "/usr/libexec/docker/cli-plugins",
] as const;

async function extraFolders(config: string): Promise<readonly string[]> {
  const text = await readFile(join(config, "config.json"), "utf8").catch(() => "{}");
  try {
    const { cliPluginsExtraDirs } = JSON.parse(text) as { cliPluginsExtraDirs?: readonly string[] };
    return cliPluginsExtraDirs ?? [];
  } catch {
    return [];
  }
}

/** The plugin that Docker's programs find with the given configuration folder. */
export async function findDockerPlugin(
  program: "docker-buildx" | "docker-compose",
  config: string,
  system: readonly string[] = systemFolders,
): Promise<string | undefined> {
  for (const folder of [...(await extraFolders(config)), join(config, "cli-plugins"), ...system]) {
    if (await exists(join(folder, program))) return join(folder, program);
  }
  return undefined;
}

/** The person's own configuration folder of Docker; `own` is the project's. */
export function personalConfig(own: string, environment: NodeJS.ProcessEnv): string {
  const named = environment.DOCKER_CONFIG;
  return !named || named === own ? join(environment.HOME ?? homedir(), ".docker") : named;
}

async function linkTo(target: string, path: string): Promise<void> {
  if ((await readlink(path).catch(() => undefined)) === target) return;
  await rm(path, { force: true });
  await symlink(target, path);
}

export interface BuildxPlace {
  /** The project's own configuration folder. */
  readonly own: string;
  readonly recipe: string;
  /** Gives the path of a program made by the recipe. */
  readonly build: () => Promise<string>;
  /** Where else Docker's programs look. */
  readonly system?: readonly string[];
}

/**
 * Gives a buildx: the person's own, or one built into the project's configuration folder, in which the person's
 * settings (registry logins, contexts) are links, so that a later `docker login` counts here too and nothing is copied.
 */
export async function provideBuildx(
  { own, recipe, build, system = systemFolders }: BuildxPlace,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<Buildx> {
  const config = personalConfig(own, environment);
  const found = await findDockerPlugin("docker-buildx", config, system);
  if (found !== undefined) return { path: found, dockerConfig: undefined, origin: "present" };
  const path = join(own, "cli-plugins", "docker-buildx");
  const present = await isCurrent(path, recipe);
  await mkdir(join(own, "cli-plugins"), { recursive: true, mode: 0o700 });
  if (!present) {
    await place(await build(), path);
    await markMade(path, recipe);
  }
  await linkTo(join(config, "config.json"), join(own, "config.json"));
  await linkTo(join(config, "contexts"), join(own, "contexts"));
  return { path, dockerConfig: own, origin: present ? "present" : "built" };
}
