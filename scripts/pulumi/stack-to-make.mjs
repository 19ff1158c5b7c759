import { existsSync } from "node:fs";
import { join } from "node:path";

/**
 * The stack that a command names and that is shared through git, where this clone's own state does not know it yet: in a
 * fresh clone `npx pulumi preview --stack prod` is then the first thing that can be typed.
 * @param {readonly string[]} args of Pulumi's
 * @param {string} projectDir
 * @param {Readonly<Record<string, string | undefined>>} environment
 * @returns {string | undefined} undefined where there is nothing to make, or the state is kept elsewhere
 */
export function stackToMake(args, projectDir, environment) {
  if (environment.PULUMI_BACKEND_URL !== undefined || args[0] === "stack" || args[0] === undefined) return undefined;
  const at = args.findIndex((arg) => arg === "--stack" || arg === "-s");
  const name = at >= 0 ? args[at + 1] : args.find((arg) => arg.startsWith("--stack="))?.slice("--stack=".length);
  if (name === undefined || !/^[\w.-]+$/.test(name)) return undefined;
  if (!existsSync(join(projectDir, `Pulumi.${name}.yaml`))) return undefined;
  const state = join(projectDir, ".tunestack", "state", ".pulumi", "stacks", "tunestack", `${name}.json`);
  return existsSync(state) ? undefined : name;
}
