import { createHash } from "node:crypto";
import { copyFile, link, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";

/** Files below a folder, sorted, as paths relative to it. */
async function filesBelow(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath ?? entry.path, entry.name)))
    .sort();
}

/**
 * A short hash over what a build is made from: the given words, and every file of the given folders (names and
 * contents). The same inputs give the same hash on every machine.
 */
export async function recipeHash(words: readonly string[], folders: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  for (const word of words) hash.update(`word ${word}\0`);
  for (const folder of folders) {
    for (const file of await filesBelow(folder)) {
      hash.update(`file ${file}\0`);
      hash.update(await readFile(join(folder, file)));
    }
  }
  return hash.digest("hex").slice(0, 12);
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

const asidePrefix = ".making-";

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Removes what interrupted builds left: folders made aside by processes that are gone. */
async function sweep(cacheDir: string): Promise<void> {
  for (const name of await readdir(cacheDir)) {
    const pid = name.startsWith(asidePrefix) ? Number(name.slice(asidePrefix.length).split("-")[0]) : Number.NaN;
    if (Number.isInteger(pid) && !isAlive(pid)) await rm(join(cacheDir, name), { recursive: true, force: true });
  }
}

/**
 * Gives the folder `<cacheDir>/<name>`, made by `make` when it is not there. It is made aside and then renamed, so it is
 * complete or absent, whenever the process is interrupted; when two processes make it at once, the first one wins.
 */
export async function cached(cacheDir: string, name: string, make: (aside: string) => Promise<void>): Promise<string> {
  const folder = join(cacheDir, name);
  if (await exists(folder)) return folder;
  await mkdir(cacheDir, { recursive: true, mode: 0o755 });
  await sweep(cacheDir);
  const aside = await mkdtemp(join(cacheDir, `${asidePrefix}${process.pid}-`));
  try {
    await make(aside);
    await rename(aside, folder);
  } catch (error) {
    await rm(aside, { recursive: true, force: true });
    if (await exists(folder)) return folder;
    throw error;
  }
  return folder;
}

/** Puts a file in place by hard link, or by copy across file systems; it appears whole or not at all. */
export async function place(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  const aside = `${to}.${process.pid}.new`;
  await rm(aside, { force: true });
  await link(from, aside).catch(() => copyFile(from, aside));
  await rename(aside, to);
}

/** Writes a file that appears whole or not at all. */
export async function placeText(to: string, text: string, mode: number): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  const aside = `${to}.${process.pid}.new`;
  await writeFile(aside, text, { mode });
  await rename(aside, to);
}
