import { homedir } from "node:os";
import { join } from "node:path";
import { PASSPHRASE_FILE, PROJECT_DIR, PULUMI_HOME, PULUMI_ROOT, pulumiEnvironment } from "../pulumi/environment.mjs";

export { PASSPHRASE_FILE, PROJECT_DIR, PULUMI_HOME, PULUMI_ROOT, pulumiEnvironment };

/** Everything that belongs to this person and machine; git ignores it. */
export const PERSONAL_DIR = join(PROJECT_DIR, ".tunestack");

/** Builds that clones share; removing it costs time and nothing else. */
export const CACHE_DIR = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "tunestack");

/** Stack that commands work on where none is named. */
export const DEFAULT_STACK = "dev";

/** A command as it is typed for a stack. Example: `npm run backup -- --stack team`. */
export function command(name: string, stack: string): string {
  return `npm run ${name}${stack === DEFAULT_STACK ? "" : ` -- --stack ${stack}`}`;
}
