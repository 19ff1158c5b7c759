import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { basename, join } from "node:path";

/** A Pulumi package on which the program depends, with the plugin that serves it. */
export interface RequiredPackage {
  readonly name: string;
  readonly version: string;
  readonly server: string;
  readonly parameterization: Parameterization | undefined;
}

export interface Parameterization {
  readonly name: string;
  readonly version: string;
  readonly value: Uint8Array;
}

interface PackageJson {
  readonly name?: string;
  readonly version?: string;
  readonly pulumi?: {
    readonly resource?: boolean;
    readonly name?: string;
    readonly version?: string;
    readonly server?: string;
    readonly parameterization?: { readonly name: string; readonly version: string; readonly value: string };
  };
}

/** The plugin that a package.json asks for, if any; throws when it asks for one without saying which. */
export function requiredBy(json: PackageJson): RequiredPackage | undefined {
  const { pulumi } = json;
  if (pulumi?.resource !== true) return undefined;
  const name = pulumi.name || (json.name?.startsWith("@pulumi/") ? json.name.slice("@pulumi/".length) : undefined);
  if (!name) throw new Error(`package ${json.name ?? "without a name"} doesn't name its plugin (pulumi.name)`);
  const version = pulumi.version || json.version;
  if (!version) throw new Error(`package ${json.name ?? name} has no version`);
  const given = pulumi.parameterization;
  return {
    name,
    version: version.startsWith("v") ? version : `v${version}`,
    server: pulumi.server ?? "",
    parameterization:
      given === undefined
        ? undefined
        : { name: given.name, version: given.version, value: Buffer.from(given.value, "base64") },
  };
}

async function readPackage(file: string): Promise<RequiredPackage | undefined> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch {
    return undefined;
  }
  if (!text.includes('"pulumi"')) return undefined;
  try {
    return requiredBy(JSON.parse(text) as PackageJson);
  } catch {
    return undefined;
  }
}

async function folders(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
  const found: string[] = [];
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found.push(path);
    else if (entry.isSymbolicLink() && (await stat(path).catch(() => undefined))?.isDirectory()) {
      found.push(await realpath(path));
    }
  }
  return found;
}

async function packagesIn(modules: string, seen: Set<string>): Promise<readonly RequiredPackage[]> {
  const candidates: string[] = [];
  for (const folder of await folders(modules)) {
    if (basename(folder).startsWith("@")) candidates.push(...(await folders(folder)));
    else candidates.push(folder);
  }
  const found = await Promise.all(
    candidates.map(async (folder) => {
      if (seen.has(folder)) return [];
      seen.add(folder);
      const own = await readPackage(join(folder, "package.json"));
      const nested = await packagesIn(join(folder, "node_modules"), seen);
      return own === undefined ? nested : [own, ...nested];
    }),
  );
  return found.flat();
}

/**
 * The Pulumi packages in `node_modules` of the program's folder and of the folders above it up to the project's root.
 * Only packages proper are looked at, at any depth of nesting: reading every folder would take most of a preview.
 */
export async function requiredPackages(program: string, root: string): Promise<readonly RequiredPackage[]> {
  const seen = new Set<string>();
  const places = program === root || root === "" ? [program] : [program, root];
  const found: RequiredPackage[] = [];
  for (const place of places) found.push(...(await packagesIn(join(place, "node_modules"), seen)));
  const unique = new Map(found.map((one) => [`${one.name}@${one.version}`, one]));
  return [...unique.values()].sort((a, b) => a.name.localeCompare(b.name));
}
