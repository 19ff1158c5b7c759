import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { Document, isMap, parseDocument } from "yaml";
import { personalStackFile } from "../../stacks/settings/load.ts";
import { PROJECT_DIR } from "./project.ts";

/**
 * Sets keys of this person's own configuration of a stack, as `pulumi config set` would, all at once. A value of
 * undefined takes the key away; null in a map takes the shared file's value away.
 */
export function setPersonal(stack: string, values: Readonly<Record<string, unknown>>): void {
  edit(stack, (document) => {
    for (const [key, value] of Object.entries(values)) {
      const path = ["config", `tunestack:${key}`];
      if (value === undefined) document.deleteIn(path);
      else document.setIn(path, document.createNode(value));
    }
  });
}

/** Sets one value within a map, and leaves the rest of the map. Example path: `["services", "jupyter", "colab"]`. */
export function setPersonalAt(stack: string, [key, ...within]: readonly string[], value: unknown): void {
  edit(stack, (document) => document.setIn(["config", `tunestack:${key}`, ...within], document.createNode(value)));
}

function edit(stack: string, change: (document: Document) => void): void {
  const file = personalStackFile(PROJECT_DIR, stack);
  const document: Document = existsSync(file) ? parseDocument(readFileSync(file, "utf8")) : new Document({});
  if (!isMap(document.contents)) document.contents = document.createNode({});
  if (!isMap(document.get("config"))) document.set("config", document.createNode({}));
  change(document);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(`${file}.new`, document.toString(), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}
