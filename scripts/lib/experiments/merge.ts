import { isRecord } from "../../../stacks/settings/layers.ts";
import { STATUSES, type Status } from "./format.ts";

type Entry = Readonly<Record<string, unknown>>;

/** A field that both sides changed differently; `kept` is what stands there now. */
export interface Conflict {
  readonly experiment: string;
  readonly field: string;
  readonly kept: unknown;
  readonly dropped: unknown;
}

export interface Merged {
  readonly experiments: readonly Entry[];
  readonly conflicts: readonly Conflict[];
}

/** What has ended stays ended: the first of these wins where the attempts are the same. */
const PRECEDENCE: readonly Status[] = ["completed", "failed", "timeout", "error", "cancelled", "running", "pending"];

/**
 * Merges three states of the queue by experiment and within it by field; the result is the same whichever side is called
 * ours. Rules: docs/experiment-queue.md, «Merging».
 */
export function mergeQueues(base: readonly unknown[], ours: readonly unknown[], theirs: readonly unknown[]): Merged {
  const [b, o, t] = [byName(base), byName(ours), byName(theirs)];
  const conflicts: Conflict[] = [];
  const merged = new Map<string, Entry>();
  for (const name of new Set([...b.keys(), ...o.keys(), ...t.keys()])) {
    const entry = mergeEntry(name, b.get(name), o.get(name), t.get(name), conflicts);
    if (entry !== undefined) merged.set(name, entry);
  }
  const order = mergeOrder([...b.keys()], [...o.keys()], [...t.keys()]).filter((name) => merged.has(name));
  const experiments = order.flatMap((name) => {
    const entry = merged.get(name);
    return entry === undefined ? [] : [entry];
  });
  return { experiments, conflicts };
}

function byName(entries: readonly unknown[]): ReadonlyMap<string, Entry> {
  return new Map(
    entries.flatMap((entry) => (isRecord(entry) && typeof entry.name === "string" ? [[entry.name, entry]] : [])),
  );
}

function mergeEntry(
  name: string,
  base: Entry | undefined,
  ours: Entry | undefined,
  theirs: Entry | undefined,
  conflicts: Conflict[],
): Entry | undefined {
  if (ours === undefined || theirs === undefined) {
    const left = ours ?? theirs;
    // Removed on one side: gone where the other left it as it was.
    return base !== undefined && same(base, left) ? undefined : left;
  }
  return mergeFields(name, "", base ?? {}, ours, theirs, conflicts);
}

function mergeFields(
  experiment: string,
  parent: string,
  base: Entry,
  ours: Entry,
  theirs: Entry,
  conflicts: Conflict[],
): Entry {
  const merged: Record<string, unknown> = {};
  const state = mergeState(base, ours, theirs);
  for (const field of mergeOrder(Object.keys(base), Object.keys(ours), Object.keys(theirs))) {
    if (field === "status" || field === "attempt") {
      if (state[field] !== undefined) merged[field] = state[field];
      continue;
    }
    const [b, o, t] = [base[field], ours[field], theirs[field]];
    if (field === "children" && parent === "") {
      const children = mergeChildren(experiment, b, o, t, conflicts);
      if (children !== undefined) merged[field] = children;
      continue;
    }
    const chosen =
      same(o, t) || same(t, b) ? o : same(o, b) ? t : decide(experiment, `${parent}${field}`, o, t, conflicts);
    if (chosen !== undefined) merged[field] = chosen;
  }
  return merged;
}

/** Status and attempt are one thing: an attempt's number says whose word is newer. */
function mergeState(base: Entry, ours: Entry, theirs: Entry): Entry {
  const [b, o, t] = [base, ours, theirs].map(stateOf);
  if (same(o, t) || same(t, b)) return o ?? {};
  if (same(o, b)) return t ?? {};
  const [weaker = {}, stronger = {}] = [o ?? {}, t ?? {}].sort(compareStates);
  const underWay = stronger.status === undefined || stronger.status === "pending" || stronger.status === "running";
  // Somebody's word to end it holds, whatever attempt is under way meanwhile.
  return weaker.status === "cancelled" && underWay ? { ...stronger, status: "cancelled" } : stronger;
}

function compareStates(a: Entry, b: Entry): number {
  const byNumber = numberOf(a.attempt) - numberOf(b.attempt);
  if (byNumber !== 0) return byNumber;
  return rank(b.status) - rank(a.status) || compareCodePoints(canonical(a), canonical(b));
}

/** Only what is there: a state without an attempt is another than one with an empty one. */
function stateOf(entry: Entry): Entry {
  return Object.fromEntries(["status", "attempt"].flatMap((key) => (key in entry ? [[key, entry[key]]] : [])));
}

function numberOf(attempt: unknown): number {
  return isRecord(attempt) && typeof attempt.number === "number" ? attempt.number : 0;
}

function rank(status: unknown): number {
  const known = STATUSES.find((each) => each === (status ?? "pending"));
  return known === undefined ? PRECEDENCE.length : PRECEDENCE.indexOf(known);
}

function mergeChildren(
  experiment: string,
  base: unknown,
  ours: unknown,
  theirs: unknown,
  conflicts: Conflict[],
): Entry | undefined {
  const [b, o, t] = [base, ours, theirs].map((each) => (isRecord(each) ? each : {}));
  if (!isRecord(ours) && !isRecord(theirs)) return undefined;
  const names = mergeOrder(Object.keys(b ?? {}), Object.keys(o ?? {}), Object.keys(t ?? {}));
  return Object.fromEntries(
    names.flatMap((name) => {
      const [inBase, inOurs, inTheirs] = [b?.[name], o?.[name], t?.[name]];
      const left = inOurs ?? inTheirs;
      if (left === undefined) return [];
      if (!isRecord(inOurs) || !isRecord(inTheirs)) return [[name, left]];
      return [
        [
          name,
          mergeFields(experiment, `children.${name}.`, isRecord(inBase) ? inBase : {}, inOurs, inTheirs, conflicts),
        ],
      ];
    }),
  );
}

/** Both sides changed a field: the larger text wins, whoever merges, and a removed field never does. */
function decide(experiment: string, field: string, ours: unknown, theirs: unknown, conflicts: Conflict[]): unknown {
  const oursWins =
    theirs === undefined || (ours !== undefined && compareCodePoints(canonical(ours), canonical(theirs)) > 0);
  const [kept, dropped] = oursWins ? [ours, theirs] : [theirs, ours];
  conflicts.push({ experiment, field, kept, dropped });
  return kept;
}

/**
 * The order of names: that of the side which changed it among those of the base, base's where both did; then what is new,
 * that side's first whose first new name is the smaller.
 */
export function mergeOrder(
  base: readonly string[],
  ours: readonly string[],
  theirs: readonly string[],
): readonly string[] {
  const known = new Set(base);
  const moved = (side: readonly string[]) => {
    const there = new Set(side);
    return !same(
      side.filter((name) => known.has(name)),
      base.filter((name) => there.has(name)),
    );
  };
  const [oursMoved, theirsMoved] = [moved(ours), moved(theirs)];
  const old = oursMoved === theirsMoved ? base : withMissing(oursMoved ? ours : theirs, base);
  const news = [ours, theirs].map((side) => side.filter((name) => !known.has(name)));
  news.sort((a, b) => compareLists(a, b));
  return [...new Set([...old.filter((name) => known.has(name)), ...news.flat()])];
}

/** By the first names that differ. */
function compareLists(a: readonly string[], b: readonly string[]): number {
  const at = a.findIndex((name, index) => name !== b[index]);
  return compareCodePoints(a[at] ?? "", b[at] ?? "");
}

/** A side's order of the base's names; one that it lacks comes after the name that it followed in the base. */
function withMissing(side: readonly string[], base: readonly string[]): readonly string[] {
  const order = side.filter((name) => base.includes(name));
  base.forEach((name, index) => {
    if (!order.includes(name)) order.splice(index === 0 ? 0 : order.indexOf(base[index - 1] ?? "") + 1, 0, name);
  });
  return order;
}

function same(a: unknown, b: unknown): boolean {
  return canonical(a) === canonical(b);
}

/** Compact JSON with sorted keys; empty for what is not there. */
function canonical(value: unknown): string {
  return value === undefined ? "" : JSON.stringify(sorted(value));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => compareCodePoints(a, b))
      .map(([key, inner]) => [key, sorted(inner)]),
  );
}

/** JavaScript compares units of UTF-16, which order characters beyond the first plane differently. */
export function compareCodePoints(a: string, b: string): number {
  const [left, right] = [[...a], [...b]];
  for (let index = 0; index < Math.min(left.length, right.length); index += 1) {
    const difference = (left[index]?.codePointAt(0) ?? 0) - (right[index]?.codePointAt(0) ?? 0);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}
