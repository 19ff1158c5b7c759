import { createHash } from "node:crypto";
import { type Experiment, isName, type MatrixValue } from "./format.ts";

/** One combination of a matrix. */
export interface Child {
  readonly name: string;
  /** Values by their keys, in the order of the file. */
  readonly values: Readonly<Record<string, MatrixValue>>;
}

/** The text of a value, as it stands in names and commands. */
export function valueText(value: MatrixValue): string {
  return String(value);
}

/** The children of an experiment in their order, the last key changing fastest; empty without a matrix. */
export function childrenOf({ name, matrix }: Pick<Experiment, "name" | "matrix">): readonly Child[] {
  if (matrix === undefined) return [];
  let combinations: readonly Readonly<Record<string, MatrixValue>>[] = [{}];
  for (const [key, values] of Object.entries(matrix)) {
    combinations = combinations.flatMap((known) => values.map((value) => ({ ...known, [key]: value })));
  }
  return combinations.map((values) => ({ name: childName(name, values), values }));
}

/** `sweep.lr-0.0001.seed-1`; a hash in place of the values where that is no name. */
export function childName(parent: string, values: Readonly<Record<string, MatrixValue>>): string {
  const pairs = Object.entries(values);
  const speaking = [parent, ...pairs.map(([key, value]) => `${key}-${valueText(value)}`)].join(".");
  if (isName(speaking)) return speaking;
  const lines = pairs.map(([key, value]) => `${key}=${valueText(value)}\n`).join("");
  return `${parent}.${createHash("sha256").update(lines).digest("hex").slice(0, 12)}`;
}

/** How many children there would be, without making them. */
export function countChildren(lists: readonly (readonly unknown[])[]): number {
  return lists.reduce((count, values) => count * values.length, 1);
}
