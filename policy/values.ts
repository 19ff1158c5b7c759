/** A leaf of a resource's inputs. */
export interface Leaf {
  /** As Pulumi writes it. Example: `ports[0].ip`. */
  readonly path: string;
  readonly value: string | number | boolean;
}

type Tree = Readonly<Record<string, unknown>>;

export function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The maps in a list; anything else in it is left out, and so is what is no list. */
export function treesIn(value: unknown): readonly Tree[] {
  return Array.isArray(value) ? value.filter(isTree) : [];
}

/** The texts in a list; a value that is known only after the update is none. */
export function textsIn(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((item): item is string => typeof item === "string") : [];
}

/** Every leaf, in the order of the names. What a plugin or the SDK keeps for itself (`__defaults`) is left out. */
export function leavesOf(value: unknown, path = ""): readonly Leaf[] {
  if (Array.isArray(value)) return value.flatMap((item, index) => leavesOf(item, `${path}[${index}]`));
  if (isTree(value)) {
    const names = Object.keys(value).filter((name) => !name.startsWith("__"));
    return names.sort().flatMap((name) => leavesOf(value[name], path === "" ? name : `${path}.${name}`));
  }
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return [{ path, value }];
  return [];
}
