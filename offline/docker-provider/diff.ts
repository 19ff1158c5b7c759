import {
  hasUnknown,
  isList,
  isProperties,
  isZero,
  type Properties,
  type Property,
  type Shape,
  type Value,
} from "./shape.ts";

export type ChangeKind = "add" | "delete" | "update";

export interface Change {
  readonly path: string;
  readonly kind: ChangeKind;
  readonly replaces: boolean;
}

/** A value in the one form in which two of them can be compared: without defaults' marks, zeroes and order of sets. */
function canonical(property: Property, value: Value | undefined): string {
  if (value === undefined || value === null) return "";
  switch (property.kind) {
    case "string":
    case "integer":
    case "boolean":
      return isZero(value) ? "" : String(value);
    case "strings": {
      const items = isList(value) ? value.map(String) : [];
      return JSON.stringify(property.order === "set" ? [...new Set(items)].sort() : items);
    }
    case "map":
      return isProperties(value) ? canonicalMap(value) : "";
    case "objects": {
      const items = (isList(value) ? value : []).map((one) => canonicalObject(property.shape, one));
      return JSON.stringify(property.order === "set" ? [...new Set(items)].sort() : items);
    }
    case "object":
      return canonicalObject(property.shape, value);
  }
}

/** The name of the top-level property in which a path lies. */
export function topLevel(path: string): string {
  return path.replace(/[.[].*$/, "");
}

function canonicalMap(value: Properties): string {
  const entries = Object.entries(value).filter(([name]) => !name.startsWith("__"));
  return JSON.stringify(entries.map(([name, one]) => [name, String(one)]).sort());
}

function canonicalObject(shape: Shape, value: Value | undefined): string {
  if (!isProperties(value)) return "";
  const fields = Object.entries(shape).map(([name, property]) => {
    const own = value[name] ?? ("default" in property ? property.default : undefined);
    const text = canonical(property, own);
    return [name, text === "[]" ? "" : text] as const;
  });
  return JSON.stringify(fields.filter(([, text]) => text !== ""));
}

function kindOf(old: Value | undefined, wanted: Value | undefined): ChangeKind {
  if (isZero(wanted)) return "delete";
  return old === undefined || old === null ? "add" : "update";
}

/** Changes inside an object: each of its own properties decides for itself what its change does. */
function changesInside(
  shape: Shape,
  old: Value | undefined,
  wanted: Value | undefined,
  path: string,
): readonly Change[] {
  const before = isProperties(old) ? old : {};
  const after = isProperties(wanted) ? wanted : {};
  return Object.entries(shape).flatMap(([name, property]) =>
    changesOf(property, before[name], after[name], `${path}.${name}`),
  );
}

function changesOf(
  property: Property,
  old: Value | undefined,
  wanted: Value | undefined,
  path: string,
): readonly Change[] {
  const replaces = property.replaces === true;
  if (property.onlyOutput) return [];
  if (wanted === undefined || wanted === null) {
    if (property.computed || isZero(old)) return [];
    return [{ path, kind: "delete", replaces }];
  }
  if (hasUnknown(wanted)) return [{ path, kind: kindOf(old, wanted), replaces }];
  if (property.kind === "string" && property.emptyKeeps && wanted === "") return [];
  const before = canonical(property, old);
  const after = canonical(property, wanted);
  if (before === after || (isZero(old) && isZero(wanted))) return [];
  if (property.kind === "object" && !isZero(old) && !isZero(wanted)) {
    return changesInside(property.shape, old, wanted, path).map((one) => ({
      ...one,
      replaces: one.replaces || replaces,
    }));
  }
  return [{ path, kind: kindOf(old, wanted), replaces }];
}

/**
 * What an update would change: the state as it was last seen against what the program wants now. A property that the
 * program leaves out is compared with nothing, unless the engine fills it in.
 */
export function diff(
  shape: Shape,
  state: Properties,
  wanted: Properties,
  ignored: readonly string[] = [],
): readonly Change[] {
  return Object.entries(shape)
    .filter(([name]) => !ignored.includes(name))
    .flatMap(([name, property]) => changesOf(property, state[name], wanted[name], name))
    .sort((a, b) => a.path.localeCompare(b.path));
}
