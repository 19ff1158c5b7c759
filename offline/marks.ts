import { readFile, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { exists, placeText } from "./cache.ts";

/** What was made here carries a file beside it which names its recipe; what the official hosts gave does not. */
const markOf = (program: string) => `${program}.recipe`;

/**
 * Whether a program is there and needs nothing: an official one, or one made here by the recipe of today. While Pulumi
 * installs a plugin, a file `.partial` stands beside its folder; left over, it tells of an interrupted download.
 */
export async function isCurrent(program: string, mark: string): Promise<boolean> {
  if (!(await exists(program)) || (await exists(`${dirname(program)}.partial`))) return false;
  const made = await readFile(markOf(program), "utf8").catch(() => undefined);
  return made === undefined || made.trim() === mark;
}

export async function markMade(program: string, mark: string): Promise<void> {
  await placeText(markOf(program), `${mark}\n`, 0o644);
  await rm(`${dirname(program)}.partial`, { force: true });
}

export async function isMade(program: string): Promise<boolean> {
  return exists(markOf(program));
}

/** Makes room for an official program where one was made here; anything else is left alone. */
export async function clearMade(program: string): Promise<void> {
  if (!(await isMade(program))) return;
  await rm(program, { force: true });
  await rm(markOf(program), { force: true });
}
