import { existsSync, readdirSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import type { Plan } from "../../plan/types.ts";
import { inputObject } from "./paths.ts";

/** A file of this machine that containers on the VM read: data, a model's folder, a chat template. */
export interface InputFile {
  /** Name of the object in the bucket. Example: `inputs/data/notes.jsonl`. */
  readonly object: string;
  /** Absolute path on this machine. */
  readonly file: string;
}

/** The files that the plan's containers mount from this machine, those of a folder one by one. */
export function inputFiles({ services, run }: Plan): readonly InputFile[] {
  const workloads = [...services, ...(run === undefined ? [] : [run.workload])];
  const found = workloads.flatMap(({ mounts }) =>
    mounts.flatMap((mount) => (mount.kind === "host" ? filesBelow(mount.source, mount.path) : [])),
  );
  return [...new Map(found.map((input) => [input.object, input])).values()];
}

function filesBelow(source: string, path: string): readonly InputFile[] {
  if (!existsSync(source)) throw new Error(`the plan mounts what is not there: ${source}`);
  if (!statSync(source).isDirectory()) return [{ object: inputObject(path), file: source }];
  return readdirSync(source, { recursive: true, withFileTypes: true })
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => statSync(file).isFile())
    .sort()
    .map((file) => ({ object: inputObject(join(path, relative(source, file))), file }));
}
