import { createHash, randomBytes } from "node:crypto";
import { createReadStream, type Dirent, existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, statfs } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { formatBytes } from "../../stacks/settings/units.ts";
import { unpackInto } from "./archive.ts";
import { askBackup, type Restored, restoredSchema } from "./backup.ts";
import { EXIT, machineError, UserError } from "./errors.ts";
import type { Report } from "./steps.ts";
import type { Workloads } from "./workloads.ts";

const MANIFEST = "manifest.json";
/** Room of a file system that is left over, so that a restore never fills it. */
const RESERVE_BYTES = 64 * 2 ** 20;

export interface FolderRestore {
  readonly snapshot: string;
  readonly run: string | undefined;
  /** Absolute folder of this machine. */
  readonly folder: string;
  readonly force: boolean;
}

/**
 * Brings a snapshot into a folder of this machine: the backup service restores it aside in its own volume, from where it
 * is streamed beside the folder, verified and renamed into place. The files belong to whoever calls.
 * @throws UserError where the folder holds something already, the disk is too small, or a file is not as it was saved.
 */
export async function restoreIntoFolder(
  workloads: Workloads,
  container: string,
  { snapshot, run, folder, force }: FolderRestore,
  report: Report,
): Promise<Restored & { readonly verified_files: number }> {
  await refuseFilled(folder, force);
  const inside = `/backup/.export-${randomBytes(6).toString("hex")}`;
  // What a killed restore left is of no use to anybody a day later.
  await workloads.run(container, [
    "find",
    "/backup",
    "-maxdepth",
    "1",
    "-name",
    ".export-*",
    "-mmin",
    "+1440",
    "-exec",
    "rm",
    "-rf",
    "{}",
    "+",
  ]);
  try {
    report("restoring from the repository");
    const only = run === undefined ? [] : ["--run", run];
    const restored = await askBackup(
      workloads,
      container,
      ["restore", "--snapshot", snapshot, "--to", inside, ...only],
      restoredSchema,
    );
    const placed = await bringOut(workloads, container, inside, { folder, force, bytes: restored.bytes }, report);
    return { ...restored, restored: [...placed.entries], verified_files: placed.files };
  } finally {
    await workloads.run(container, ["rm", "-rf", inside]);
  }
}

async function bringOut(
  workloads: Workloads,
  container: string,
  inside: string,
  target: { readonly folder: string; readonly force: boolean; readonly bytes: number },
  report: Report,
): Promise<{ readonly entries: readonly string[]; readonly files: number }> {
  const { folder, force, bytes } = target;
  await mkdir(folder, { recursive: true });
  await requireRoom(folder, bytes);
  const aside = await mkdtemp(join(folder, ".restore-"));
  try {
    report(`copying ${formatBytes(bytes)} to ${folder}`);
    const archive = await workloads.archive(container, inside);
    await pipeline(archive, unpackInto(aside));
    report("verifying");
    const { files, problems } = await verifyManifests(aside);
    if (problems.length > 0) throw damaged(problems);
    return { entries: await putIntoPlace(aside, folder, force), files };
  } catch (error) {
    throw isFull(error) ? fullDisk(folder, bytes, undefined) : error;
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

async function refuseFilled(folder: string, force: boolean): Promise<void> {
  if (!existsSync(folder)) return;
  const isFolder = (await stat(folder)).isDirectory();
  if (isFolder && (force || (await readdir(folder)).length === 0)) return;
  throw new UserError(
    [
      {
        path: "--to",
        value: folder,
        reason: isFolder ? "holds something already" : "is a file",
        remedy: isFolder
          ? "name a new folder, or add --force to replace what has the same name in it"
          : "name a folder",
      },
    ],
    EXIT.refused,
    "restore",
  );
}

async function requireRoom(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free < bytes + RESERVE_BYTES) throw fullDisk(folder, bytes, free);
}

function fullDisk(folder: string, bytes: number, free: number | undefined): UserError {
  return machineError({
    path: folder,
    value: free === undefined ? undefined : `${formatBytes(free)} free`,
    reason: `has no room for the ${formatBytes(bytes)} of the snapshot`,
    remedy: "free some, name a folder on a larger disk, or bring back one run alone: --run NAME",
  });
}

function isFull(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOSPC" || error.code === "EDQUOT");
}

function damaged(problems: readonly string[]): UserError {
  return new UserError(
    problems.slice(0, 5).map((problem) => ({
      path: "restored files",
      reason: problem,
      remedy:
        "npm run restore -- verify tells whether the repository is well; npm run restore -- list shows older snapshots",
    })),
    EXIT.machine,
    "restore",
  );
}

/** Each run, folder or file of each part, from aside to where it belongs. */
async function putIntoPlace(aside: string, folder: string, force: boolean): Promise<readonly string[]> {
  const placed: string[] = [];
  for (const part of await readdir(aside)) {
    await mkdir(join(folder, part), { recursive: true });
    for (const name of await readdir(join(aside, part))) {
      const destination = join(folder, part, name);
      if (force) await rm(destination, { recursive: true, force: true });
      await rename(join(aside, part, name), destination);
      placed.push(destination);
    }
  }
  return placed.sort();
}

const manifestSchema = z.object({
  schema: z.literal(1),
  files: z.record(z.string(), z.object({ size: z.number(), sha256: z.string() })),
});

export interface Verified {
  /** Files that were compared with a manifest, byte for byte by their hash. */
  readonly files: number;
  readonly manifests: number;
  /** One line for each file that is not as its manifest says. */
  readonly problems: readonly string[];
}

/** Compares every file below a folder that a manifest lists with what the manifest says. */
export async function verifyManifests(folder: string): Promise<Verified> {
  const found = await readdir(folder, { recursive: true, withFileTypes: true });
  const manifests = found.filter((entry) => entry.isFile() && entry.name === MANIFEST).map(pathOf);
  const problems: string[] = [];
  let files = 0;
  for (const manifest of manifests.sort()) {
    const shown = relative(folder, manifest);
    const parsed = manifestSchema.safeParse(parseJson(await readFile(manifest, "utf8")));
    if (!parsed.success) {
      problems.push(`${shown} is no manifest`);
      continue;
    }
    for (const [name, expected] of Object.entries(parsed.data.files)) {
      files += 1;
      const problem = await fileProblem(dirname(manifest), name, expected);
      if (problem !== undefined) problems.push(`${join(dirname(shown), name)} ${problem}`);
    }
  }
  return { files, manifests: manifests.length, problems };
}

function pathOf(entry: Dirent): string {
  return join(entry.parentPath, entry.name);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function fileProblem(
  folder: string,
  name: string,
  expected: { readonly size: number; readonly sha256: string },
): Promise<string | undefined> {
  const path = resolve(folder, name);
  if (!path.startsWith(`${folder}/`)) return "is outside of the manifest's folder";
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return "is missing";
  if (found.size !== expected.size) return `has ${found.size} bytes and not ${expected.size}`;
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex") === expected.sha256 ? undefined : "differs from what was saved";
}
