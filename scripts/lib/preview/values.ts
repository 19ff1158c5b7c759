import { isPlainSecret, MASKED, UNKNOWN } from "../../../policy/secrets.ts";
import { isTree } from "../../../policy/values.ts";

/** Characters of a value that are shown; the rest is cut. */
const SHOWN = 80;

/**
 * A value as it is shown: JSON, secrets masked, what is not known yet said, cut.
 * @param path where it stands, since a name tells a secret. Example: `envs[3]`.
 * @returns undefined for a value that is not there.
 */
export function showInput(path: string, value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  const masked = mask(path, value);
  const text = (typeof masked === "string" ? masked : JSON.stringify(masked)).replaceAll(/\s+/g, " ");
  return text.length > SHOWN ? `${text.slice(0, SHOWN - 1)}…` : text;
}

function mask(path: string, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item, index) => mask(`${path}[${index}]`, item));
  if (isTree(value)) {
    const shown = Object.entries(value).filter(([name]) => !name.startsWith("__"));
    return Object.fromEntries(shown.map(([name, item]) => [name, mask(`${path}.${name}`, item)]));
  }
  if (typeof value !== "string") return value;
  if (isPlainSecret(path, value)) return "(secret)";
  return value.replaceAll(MASKED, "(secret)").replaceAll(UNKNOWN, "(known after the update)");
}

/** What stands at a path of Pulumi's: `ports[0].external`, `labels["dev.tunestack.run"]`; undefined where nothing does. */
export function valueAt(root: unknown, path: string): unknown {
  let value = root;
  for (const [, index, quoted, name] of path.matchAll(/\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]|([^.[\]]+)/g)) {
    if (index !== undefined) value = Array.isArray(value) ? value[Number(index)] : undefined;
    else value = isTree(value) ? value[quoted ?? name ?? ""] : undefined;
  }
  return value;
}
