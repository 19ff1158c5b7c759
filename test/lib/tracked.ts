import { execFileSync } from "node:child_process";
import { closeSync, existsSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";

/** Files that git has or would take in, relative to the project. */
export function trackedFiles(): readonly string[] {
  const listed = execFileSync("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: PROJECT_DIR,
    encoding: "utf8",
    maxBuffer: 64 * 2 ** 20,
  });
  return listed
    .split("\0")
    .filter((file) => file !== "" && existsSync(join(PROJECT_DIR, file)))
    .sort();
}

/** Shell scripts among the tracked files, by their first line. */
export function shellScripts(): readonly string[] {
  return trackedFiles().filter((file) => /^#!.*\b(sh|bash)\s*$/.test(firstLine(join(PROJECT_DIR, file))));
}

function firstLine(file: string): string {
  const descriptor = openSync(file, "r");
  try {
    const buffer = Buffer.alloc(128);
    const length = readSync(descriptor, buffer, 0, buffer.length, 0);
    return buffer.subarray(0, length).toString("utf8").split("\n")[0] ?? "";
  } finally {
    closeSync(descriptor);
  }
}
