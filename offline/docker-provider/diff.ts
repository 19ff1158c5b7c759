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
      return JSON.stringify([...new Set(items)].sort());
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
  if (wanted === undefined || wanted === null) return "delete";
  return old === undefined || old === null || (isList(old) && old.length === 0) ? "add" : "update";
}

/** Whether an object sets any property, at any depth, whose change replaces the resource. */
function setsReplacing(shape: Shape, value: Value | undefined): boolean {
  if (!isProperties(value)) return false;
  return Object.entries(shape).some(([name, property]) => {
    const own = value[name];
    if (isZero(own)) return false;
    if (property.replaces) return true;
    return property.kind === "object" && setsReplacing(property.shape, own);
  });
}

/** Takes over from the old objects what the engine fills in, where the rest of an object is the same. */
function withComputed(shape: Shape, wanted: readonly Value[], old: readonly Value[]): readonly Value[] {
  const computed = Object.keys(shape).filter((name) => shape[name]?.computed);
  if (computed.length === 0) return wanted;
  return wanted.map((one) => {
    if (!isProperties(one)) return one;
    const missing = computed.filter((name) => one[name] === undefined || one[name] === null);
    const given = Object.fromEntries(Object.entries(shape).filter(([name]) => !missing.includes(name)));
    const match = old.find((before) => canonicalObject(given, before) === canonicalObject(given, one));
    if (!isProperties(match)) return one;
    return { ...one, ...Object.fromEntries(missing.map((name) => [name, match[name] ?? null])) };
  });
}

/**
 * Changes of a list of objects. More or fewer of them is a change of the list itself; as many as before, some of them
 * different, is a change of what those objects set, and only that decides whether the resource is replaced. (That is
 * how Terraform sees it: another source of a mount is no replacement.)
 */
function changesOfObjects(
  { shape, replaces }: { readonly shape: Shape; readonly replaces?: true },
  old: readonly Value[],
  given: readonly Value[],
  path: string,
): readonly Change[] {
  const wanted = withComputed(shape, given, old);
  const before = new Map(old.map((one) => [canonicalObject(shape, one), one]));
  const after = new Map(wanted.map((one) => [canonicalObject(shape, one), one]));
  const changed = [
    ...[...before].filter(([text]) => !after.has(text)),
    ...[...after].filter(([text]) => !before.has(text)),
  ].map(([, one]) => one);
  if (changed.length === 0) return [];
  const replacing = before.size === after.size ? changed.some((one) => setsReplacing(shape, one)) : replaces === true;
  return [{ path, kind: old.length === 0 ? "add" : "update", replaces: replacing }];
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
  const keeps = property.kind === "string" && property.emptyKeeps === true;
  if (wanted === undefined || wanted === null) {
    if (property.computed || keeps || isZero(old)) return [];
    return [{ path, kind: "delete", replaces }];
  }
  if (hasUnknown(wanted)) return [{ path, kind: kindOf(old, wanted), replaces }];
  if (keeps && wanted === "") return [];
  if (property.kind === "objects") {
    return changesOfObjects(property, isList(old) ? old : [], isList(wanted) ? wanted : [], path);
  }
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
