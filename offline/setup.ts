import { join } from "node:path";
import { type BaseImage, makeBaseImage } from "./base-image.ts";
import { builtProgram, type Report, recipeFolder } from "./build.ts";
import { type Buildx, provideBuildx } from "./buildx.ts";
import { exists, place } from "./cache.ts";
import { isCurrent, markMade } from "./marks.ts";
import { installOfficialCli, installOfficialPlugin } from "./official.ts";
import { officialReachable, type ReachableOptions } from "./reachable.ts";
import { goRecipes, versions } from "./recipes.ts";
import { placeStandIn, standInFolder } from "./stand-ins.ts";

export { OfflineError } from "./errors.ts";
export { type OfficialOffer, officialReachable } from "./reachable.ts";
export { versions } from "./recipes.ts";

export interface SetupOptions {
  /** The project's own PULUMI_HOME: `.tunestack/pulumi-home`. */
  readonly pulumiHome: string;
  /** Where builds are kept for all clones of a person: `~/.cache/tunestack`. */
  readonly cacheDir: string;
  /** Takes one line of progress. */
  readonly report: Report;
  /** Where the official hosts are asked; for the tests. */
  readonly reachable?: ReachableOptions;
}

/** Where something came from: it was there, was downloaded from its official host, or was built here. */
export type Origin = "present" | "official" | "built";

export interface Provided {
  readonly path: string;
  readonly origin: Origin;
}

export const cliFolder = (pulumiHome: string) => join(pulumiHome, "versions", versions.pulumi, "bin");

async function provide(
  path: string,
  mark: string,
  official: () => Promise<boolean>,
  build: () => Promise<void>,
): Promise<Provided> {
  if (await isCurrent(path, mark)) return { path, origin: "present" };
  if (await official()) return { path, origin: "official" };
  await build();
  await markMade(path, mark);
  return { path, origin: "built" };
}

/** The Pulumi CLI, at `versions/<version>/bin/pulumi` below PULUMI_HOME, where npm's own `pulumi` looks too. */
export async function ensurePulumiCli(options: SetupOptions): Promise<Provided> {
  const { cacheDir, report } = options;
  const path = join(cliFolder(options.pulumiHome), "pulumi");
  return provide(
    path,
    await recipeFolder(goRecipes.pulumi),
    async () => (await officialReachable("pulumi", options.reachable)) && installOfficialCli(options),
    async () => place(await builtProgram(goRecipes.pulumi, cacheDir, report), path),
  );
}

/** The language host beside the CLI. The official CLI brings its own, which is left as it is. */
export async function ensureLanguageHost(options: SetupOptions): Promise<Provided> {
  const path = join(cliFolder(options.pulumiHome), "pulumi-language-nodejs");
  return provide(
    path,
    await standInFolder("language-host"),
    async () => false,
    () => placeStandIn("language-host", options.cacheDir, path),
  );
}

/** The plugin of @pulumi/docker-build, official or built from its Go module. */
export async function ensureDockerBuildPlugin(options: SetupOptions): Promise<Provided> {
  const { cacheDir, report, pulumiHome } = options;
  const version = versions.dockerBuildPlugin;
  const path = join(pulumiHome, "plugins", `resource-docker-build-v${version}`, "pulumi-resource-docker-build");
  return provide(
    path,
    await recipeFolder(goRecipes.dockerBuildPlugin),
    async () =>
      (await officialReachable("docker-build-plugin", options.reachable)) &&
      installOfficialPlugin(options, "docker-build", version),
    async () => place(await builtProgram(goRecipes.dockerBuildPlugin, cacheDir, report), path),
  );
}

/** The plugin of @pulumi/docker: official, or the stand-in. */
export async function ensureDockerProvider(options: SetupOptions): Promise<Provided> {
  const version = versions.dockerPlugin;
  const path = join(options.pulumiHome, "plugins", `resource-docker-v${version}`, "pulumi-resource-docker");
  return provide(
    path,
    await standInFolder("docker-provider"),
    async () =>
      (await officialReachable("docker-plugin", options.reachable)) &&
      installOfficialPlugin(options, "docker", version),
    () => placeStandIn("docker-provider", options.cacheDir, path),
  );
}

/**
 * Docker's buildx. Where the person has one, nothing is done and `dockerConfig` is undefined; else one is built into a
 * Docker configuration folder of the project, which reads the person's own, and DOCKER_CONFIG has to name that folder.
 */
export async function ensureBuildx(options: SetupOptions): Promise<Buildx> {
  return provideBuildx(join(options.pulumiHome, "docker-config"), async () =>
    builtProgram(goRecipes.buildx, options.cacheDir, options.report),
  );
}

/** A Debian image with Python that was pulled from nowhere; the tag names the recipe. */
export async function ensureBaseImage(options: Pick<SetupOptions, "cacheDir" | "report">): Promise<BaseImage> {
  return makeBaseImage(options.cacheDir, options.report);
}

/** Whether anything in this PULUMI_HOME is a stand-in or was built here, by the path of its program. */
export async function isOffline(pulumiHome: string): Promise<boolean> {
  return exists(`${join(cliFolder(pulumiHome), "pulumi")}.recipe`);
}
