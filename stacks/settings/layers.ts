/** Settings as they stand in a file: nested, unchecked. */
export type RawSettings = { readonly [key: string]: unknown };

/** One source of settings. Later layers win, key by key; a list replaces a list. */
export interface Layer {
  /** Where the values come from, as a person knows it. Example: `Pulumi.dev.yaml`. */
  readonly source: string;
  readonly values: RawSettings;
}

export interface Merged {
  readonly values: RawSettings;
  /** For each leaf's path, such as `services.jupyter.port`, the source of its value. */
  readonly sources: ReadonlyMap<string, string>;
}

/** Merges layers from lowest to highest; null takes a lower layer's value away. Inputs are left as they are. */
export function mergeLayers(layers: readonly Layer[]): Merged {
  const sources = new Map<string, string>();
  let values: RawSettings = {};
  for (const layer of layers) values = mergeInto(values, layer.values, layer.source, sources, "");
  return { values, sources };
}

function mergeInto(
  lower: RawSettings,
  higher: RawSettings,
  source: string,
  sources: Map<string, string>,
  parent: string,
): RawSettings {
  const merged: Record<string, unknown> = { ...lower };
  for (const [key, value] of Object.entries(higher)) {
    const path = parent === "" ? key : `${parent}.${key}`;
    const below = merged[key];
    // A map goes on top of a map; anything else takes the place of what was there.
    if (!isRecord(value) || !isRecord(below)) forget(sources, path);
    if (value === null) {
      delete merged[key];
    } else if (isRecord(value)) {
      merged[key] = mergeInto(isRecord(below) ? below : {}, value, source, sources, path);
    } else {
      merged[key] = value;
      sources.set(path, source);
    }
  }
  return merged;
}

function forget(sources: Map<string, string>, path: string): void {
  for (const leaf of sources.keys()) {
    if (leaf === path || leaf.startsWith(`${path}.`)) sources.delete(leaf);
  }
}

export function isRecord(value: unknown): value is RawSettings {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
