import type { KubernetesObject } from "@kubernetes/client-node";

/** An object as somebody applied it, without what others have written into it since. */
export interface Applied {
  /** Who applied it, in server-side apply's sense. */
  readonly manager: string;
  readonly applied: KubernetesObject & { readonly [field: string]: unknown };
}

/**
 * Takes an object back to what was applied, by the fields that its manager owns: a queue writes node selectors into a
 * run, which a new start must not be held to.
 * Format: https://kubernetes.io/docs/reference/using-api/server-side-apply (managed fields).
 */
export function appliedBy(object: KubernetesObject): Applied {
  const entry = object.metadata?.managedFields?.find(({ operation }) => operation === "Apply");
  if (entry?.manager === undefined || !isMap(entry.fieldsV1)) throw new Error("the object was not applied by anybody");
  const { apiVersion, kind, metadata } = object;
  const owned = owning(object, entry.fieldsV1);
  if (!isMap(owned) || apiVersion === undefined || kind === undefined)
    throw new Error("the object has no owned fields");
  const { labels, annotations } = isMap(owned.metadata) ? owned.metadata : {};
  return {
    manager: entry.manager,
    applied: {
      ...owned,
      apiVersion,
      kind,
      metadata: {
        name: metadata?.name ?? "",
        namespace: metadata?.namespace ?? "",
        ...(isTextMap(labels) ? { labels } : {}),
        ...(isTextMap(annotations) ? { annotations } : {}),
      },
    },
  };
}

type Fields = Readonly<Record<string, unknown>>;

/** A field with nothing below it is owned as a whole. */
function owning(value: unknown, fields: Fields): unknown {
  const keys = Object.keys(fields).filter((key) => key !== ".");
  if (keys.length === 0) return value;
  if (Array.isArray(value)) {
    return value.flatMap((item: unknown, index) => {
      const key = keys.find((one) => names(one, item, index));
      if (key === undefined) return [];
      const below = fields[key];
      return [isMap(below) ? owning(item, below) : item];
    });
  }
  if (!isMap(value)) return value;
  const entries = keys.flatMap((key): [string, unknown][] => {
    const name = key.startsWith("f:") ? key.slice(2) : undefined;
    const below = fields[key];
    if (name === undefined || !(name in value)) return [];
    return [[name, isMap(below) ? owning(value[name], below) : value[name]]];
  });
  return Object.fromEntries(entries);
}

/** Items of a list go by their keys (`k:{"name":"main"}`), by their value (`v:"x"`) or by their place (`i:0`). */
function names(key: string, item: unknown, index: number): boolean {
  const told = key.slice(2);
  switch (key.slice(0, 2)) {
    case "k:":
      return isMap(item) && Object.entries(parsedMap(told)).every(([name, wanted]) => item[name] === wanted);
    case "v:":
      return JSON.stringify(item) === told;
    case "i:":
      return index === Number(told);
    default:
      return false;
  }
}

function parsedMap(text: string): Fields {
  const value: unknown = JSON.parse(text);
  return isMap(value) ? value : {};
}

function isMap(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTextMap(value: unknown): value is { [key: string]: string } {
  return isMap(value) && Object.values(value).every((one) => typeof one === "string");
}
