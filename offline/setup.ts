import { join } from "node:path";
import { type BaseImage, makeBaseImage } from "./base-image.ts";
import { builtProgram, recipeFolder } from "./build.ts";
import { type Buildx, findDockerPlugin, personalConfig, provideBuildx } from "./buildx.ts";
import { place } from "./cache.ts";
import { clearMade, isCurrent, isMade, markMade } from "./marks.ts";
import { installOfficialCli, installOfficialPlugin } from "./official.ts";
import type { SetupOptions } from "./options.ts";
import { type OfficialOffer, officialReachable } from "./reachable.ts";
import { goRecipes, versions } from "./recipes.ts";
import { placeStandIn, standInFolder } from "./stand-ins.ts";

export { OfflineError } from "./errors.ts";
export type { SetupOptions } from "./options.ts";
export { type OfficialOffer, officialReachable } from "./reachable.ts";
export { versions } from "./recipes.ts";

/** Where something came from: it was there, was downloaded from its official host, or was built here. */
export type Origin = "present" | "official" | "built";

export interface Provided {
  readonly path: string;
  readonly origin: Origin;
}

export const cliFolder = (pulumiHome: string) => join(pulumiHome, "versions", versions.pulumi, "bin");

interface Way {
  readonly path: string;
  /** The recipe by which it would be made here today. */
  readonly recipe: string;
  readonly offer?: OfficialOffer;
  readonly install?: () => Promise<boolean>;
  readonly build: () => Promise<void>;
}

async function provide(way: Way, options: SetupOptions): Promise<Provided> {
  const { path, recipe, offer, install, build } = way;
  if (await isCurrent(path, recipe)) return { path, origin: "present" };
  if (offer !== undefined && install !== undefined && (await officialReachable(offer, options.reachable))) {
    await clearMade(path);
    if (await install()) return { path, origin: "official" };
  }
  await build();
  await markMade(path, recipe);
  return { path, origin: "built" };
}

/** The Pulumi CLI, at `versions/<version>/bin/pulumi` below PULUMI_HOME, where npm's own `pulumi` looks too. */
export async function ensurePulumiCli(options: SetupOptions): Promise<Provided> {
  const { cacheDir, report } = options;
  const path = join(cliFolder(options.pulumiHome), "pulumi");
  const recipe = await recipeFolder(goRecipes.pulumi);
  const install = () => installOfficialCli(options);
  const build = async () => place(await builtProgram(goRecipes.pulumi, cacheDir, report), path);
  return provide({ path, recipe, offer: "pulumi", install, build }, options);
}

/** The language host beside the CLI. The official CLI brings its own, which is left as it is: call this after it. */
export async function ensureLanguageHost(options: SetupOptions): Promise<Provided> {
  const path = join(cliFolder(options.pulumiHome), "pulumi-language-nodejs");
  const recipe = await standInFolder("language-host");
  const build = () => placeStandIn("language-host", options.cacheDir, path);
  return provide({ path, recipe, build }, options);
}

function pluginPath(pulumiHome: string, name: string, version: string): string {
  return join(pulumiHome, "plugins", `resource-${name}-v${version}`, `pulumi-resource-${name}`);
}

/** The plugin of @pulumi/docker-build, official or built from its Go module. */
export async function ensureDockerBuildPlugin(options: SetupOptions): Promise<Provided> {
  const { cacheDir, report, pulumiHome } = options;
  const version = versions.dockerBuildPlugin;
  const path = pluginPath(pulumiHome, "docker-build", version);
  const recipe = await recipeFolder(goRecipes.dockerBuildPlugin);
  const install = () => installOfficialPlugin(options, "docker-build", version);
  const build = async () => place(await builtProgram(goRecipes.dockerBuildPlugin, cacheDir, report), path);
  return provide({ path, recipe, offer: "docker-build-plugin", install, build }, options);
}

/** The plugin of @pulumi/docker: official, or the stand-in. */
export async function ensureDockerProvider(options: SetupOptions): Promise<Provided> {
  const version = versions.dockerPlugin;
  const path = pluginPath(options.pulumiHome, "docker", version);
  const recipe = await standInFolder("docker-provider");
  const install = () => installOfficialPlugin(options, "docker", version);
  const build = () => placeStandIn("docker-provider", options.cacheDir, path);
  return provide({ path, recipe, offer: "docker-plugin", install, build }, options);
}

/** The plugin of @pulumi/gcp: official, or what previews in its place. */
export function ensureGcpPlugin(options: SetupOptions): Promise<Provided> {
  return ensurePreviewedPlugin(options, "gcp", versions.gcpPlugin, "gcp-plugin");
}

/** The plugin of @pulumi/kubernetes: official, or what previews in its place. */
export function ensureKubernetesPlugin(options: SetupOptions): Promise<Provided> {
  return ensurePreviewedPlugin(options, "kubernetes", versions.kubernetesPlugin, "kubernetes-plugin");
}

async function ensurePreviewedPlugin(
  options: SetupOptions,
  name: string,
  version: string,
  offer: OfficialOffer,
): Promise<Provided> {
  const path = pluginPath(options.pulumiHome, name, version);
  const recipe = await standInFolder("preview-provider");
  const install = () => installOfficialPlugin(options, name, version);
  const build = () => placeStandIn("preview-provider", options.cacheDir, path);
  return provide({ path, recipe, offer, install, build }, options);
}

/**
 * Docker's buildx. Where the person has one, nothing is done and `dockerConfig` is undefined; else one is built into a
 * Docker configuration folder of the project, which reads the person's own, and DOCKER_CONFIG has to name that folder.
 */
export async function ensureBuildx(options: SetupOptions): Promise<Buildx> {
  const { cacheDir, report } = options;
  return provideBuildx({
    own: join(options.pulumiHome, "docker-config"),
    recipe: await recipeFolder(goRecipes.buildx),
    build: () => builtProgram(goRecipes.buildx, cacheDir, report),
  });
}

/** Docker Compose as a program: the person's own, or one built from its Go module. Only the tests need it. */
export async function ensureCompose(options: SetupOptions): Promise<Provided> {
  const config = personalConfig(join(options.pulumiHome, "docker-config"), process.env);
  const found = await findDockerPlugin("docker-compose", config);
  if (found !== undefined) return { path: found, origin: "present" };
  return { path: await builtProgram(goRecipes.compose, options.cacheDir, options.report), origin: "built" };
}

/** A Debian image with Python that was pulled from nowhere; the tag names the recipe. */
export async function ensureBaseImage(options: Pick<SetupOptions, "cacheDir" | "report">): Promise<BaseImage> {
  return makeBaseImage(options.cacheDir, options.report);
}

/** What in this PULUMI_HOME was made here instead of downloaded, by name: for a message to the person. */
export async function madeHere(pulumiHome: string): Promise<readonly string[]> {
  const programs = {
    "Pulumi CLI": join(cliFolder(pulumiHome), "pulumi"),
    "Node language host": join(cliFolder(pulumiHome), "pulumi-language-nodejs"),
    "docker-build plugin": pluginPath(pulumiHome, "docker-build", versions.dockerBuildPlugin),
    "docker provider": pluginPath(pulumiHome, "docker", versions.dockerPlugin),
    "gcp plugin": pluginPath(pulumiHome, "gcp", versions.gcpPlugin),
    "kubernetes plugin": pluginPath(pulumiHome, "kubernetes", versions.kubernetesPlugin),
  };
  const found = await Promise.all(
    Object.entries(programs).map(async ([name, path]) => ((await isMade(path)) ? [name] : [])),
  );
  return found.flat();
}
