/** A value as JSON has it: what a Pulumi provider is given and gives back. */
export type Value = null | boolean | number | string | readonly Value[] | { readonly [name: string]: Value };

export type ChangeKind = "add" | "delete" | "update";

export interface Change {
  /** As Pulumi writes it. Example: `disks[0].diskSizeGb`. */
  readonly path: string;
  readonly kind: ChangeKind;
}

/** Every leaf in which two sets of inputs differ; what Pulumi or its SDK adds for itself (`__defaults`) does not count. */
export function diff(before: Value | undefined, after: Value | undefined, path = ""): readonly Change[] {
  if (isSame(before, after)) return [];
  if (isMap(before) && isMap(after)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(
      (name) => !name.startsWith("__"),
    );
    return names.sort().flatMap((name) => diff(before[name], after[name], path === "" ? name : `${path}.${name}`));
  }
  if (isList(before) && isList(after)) {
    const length = Math.max(before.length, after.length);
    return Array.from({ length }, (_, index) => diff(before[index], after[index], `${path}[${index}]`)).flat();
  }
  if (before === undefined || before === null) return [{ path, kind: "add" }];
  if (after === undefined || after === null) return [{ path, kind: "delete" }];
  return [{ path, kind: "update" }];
}

function isSame(before: Value | undefined, after: Value | undefined): boolean {
  return before === after || (before === undefined && after === null) || (before === null && after === undefined);
}

function isList(value: Value | undefined): value is readonly Value[] {
  return Array.isArray(value);
}

function isMap(value: Value | undefined): value is { readonly [name: string]: Value } {
  return typeof value === "object" && value !== null && !isList(value);
}
