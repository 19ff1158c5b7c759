import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";

/** Where a model or a data set is: on this machine, or on the Hugging Face hub. */
export type Located =
  | { readonly kind: "host"; readonly path: string; readonly exists: boolean }
  | { readonly kind: "hub"; readonly id: string };

/** Stands before the id of a data set on the hub, which would otherwise read as a path. */
const HUB_PREFIX = "hub:";

/** A data set is a path unless it says `hub:`. */
export function locateData(projectDir: string, given: string): Located {
  if (given.startsWith(HUB_PREFIX)) return { kind: "hub", id: given.slice(HUB_PREFIX.length) };
  return onHost(projectDir, given);
}

/** A model is a folder where it looks like a path or is one, and an id of the hub otherwise. */
export function locateModel(projectDir: string, given: string): Located {
  const path = onHost(projectDir, given);
  const looksLikePath = isAbsolute(given) || /^(\.\.?|~)\//.test(given);
  return looksLikePath || path.exists ? path : { kind: "hub", id: given };
}

/** A chat template is a file here, unless it is left to the tokenizer. */
export function locateTemplate(projectDir: string, given: unknown): Located | undefined {
  return typeof given !== "string" || given === "auto" ? undefined : onHost(projectDir, given);
}

function onHost(projectDir: string, given: string): Located & { readonly kind: "host" } {
  const expanded = given.startsWith("~/") ? join(homedir(), given.slice(2)) : given;
  const path = resolve(projectDir, expanded);
  return { kind: "host", path, exists: existsSync(path) };
}
