import { existsSync, readFileSync } from "node:fs";
import { parseDocument } from "yaml";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { personalStackFile } from "../../stacks/settings/load.ts";

/** One key of this person's own configuration, as it stands there. */
export function getPersonal(stack: string, key: string): RawSettings | readonly unknown[] | string | undefined {
  const file = personalStackFile(PROJECT_DIR, stack);
  if (!existsSync(file)) return undefined;
  const content: unknown = parseDocument(readFileSync(file, "utf8")).toJS();
  if (typeof content !== "object" || content === null || !("config" in content)) return undefined;
  const { config } = content;
  return typeof config === "object" && config !== null
    ? (config as Record<string, RawSettings>)[`tunestack:${key}`]
    : undefined;
}
