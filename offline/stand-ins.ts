import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { bundleStandIn, type StandIn } from "./bundle.ts";
import { cached, place, placeText, recipeHash } from "./cache.ts";
import { offlineFolder, versions } from "./recipes.ts";

const libraries = ["@grpc/grpc-js", "@pulumi/pulumi", "dockerode", "esbuild", "google-protobuf"] as const;

async function libraryVersion(name: string): Promise<string> {
  const require = createRequire(join(offlineFolder, "package.json"));
  for (const folder of require.resolve.paths(name) ?? []) {
    const text = await readFile(join(folder, name, "package.json"), "utf8").catch(() => undefined);
    if (text !== undefined) return (JSON.parse(text) as { version: string }).version;
  }
  return "not installed";
}

/** The name of the cache folder of a stand-in: it changes with its sources and the libraries in it. */
export async function standInFolder(standIn: StandIn): Promise<string> {
  const words = await Promise.all(libraries.map(async (name) => `${name}@${await libraryVersion(name)}`));
  const hash = await recipeHash(
    [...words, await readFile(join(offlineFolder, "bundle.ts"), "utf8")],
    [join(offlineFolder, standIn), join(offlineFolder, "rpc")],
  );
  return `${standIn}-${versions.pulumi}-${hash}`;
}

/** Puts a stand-in where the engine looks for a program: a small shell script which starts the bundle beside it. */
export async function placeStandIn(standIn: StandIn, cacheDir: string, program: string): Promise<void> {
  const folder = await cached(cacheDir, await standInFolder(standIn), (aside) => bundleStandIn(standIn, aside));
  await place(join(folder, `${standIn}.cjs`), join(dirname(program), `${standIn}.cjs`));
  await placeText(program, `#!/bin/sh\nexec node "\${0%/*}/${standIn}.cjs" "$@"\n`, 0o755);
}
