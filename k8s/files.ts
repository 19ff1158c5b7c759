import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";

/** Content of a file, by the empty path, or of every file of a folder, by its path below it. */
export function readFiles(source: string): ReadonlyMap<string, Buffer> {
  if (!statSync(source).isDirectory()) return new Map([["", readFileSync(source)]]);
  const files = readdirSync(source, { recursive: true, withFileTypes: true })
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => statSync(file).isFile())
    .sort();
  return new Map(files.map((file) => [relative(source, file), readFileSync(file)]));
}
