import { readdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { exists } from "../../../offline/cache.ts";

/** Names a folder that holds the official `pulumi-resource-docker`. */
export const officialVariable = "TUNESTACK_OFFICIAL_PLUGINS";

const program = "pulumi-resource-docker";

/** The official Docker provider on this machine, where there is one; stand-ins carry a mark and don't count. */
export async function findOfficial(environment: NodeJS.ProcessEnv = process.env): Promise<string | undefined> {
  const named = environment[officialVariable];
  const plugins = join(homedir(), ".pulumi", "plugins");
  const installed = (await readdir(plugins).catch(() => [])).filter((name) =>
    /^resource-docker-v5\.[^/]*[^k]$/.test(name),
  );
  const places = [...(named ? [named] : []), ...installed.sort().map((name) => join(plugins, name))];
  for (const folder of places) {
    const path = join(folder, program);
    if ((await exists(path)) && !(await exists(`${path}.recipe`))) return path;
  }
  return undefined;
}

export const whySkipped = `the official Docker provider is not on this machine: install it (pulumi plugin install resource docker 5.0.0) or name a folder that holds pulumi-resource-docker in ${officialVariable}`;
