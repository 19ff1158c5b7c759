import { isRecord, type RawSettings } from "../../../stacks/settings/layers.ts";
import { EXIT, UserError } from "../errors.ts";
import { ENDED, type Experiment, queueText, STATUSES, type Status } from "./format.ts";
import { childrenOf } from "./matrix.ts";
import { readQueue } from "./validate.ts";

/** The queue after a change of statuses, and the names that it touched. */
export interface StatusChange {
  readonly entries: readonly unknown[];
  readonly changed: readonly string[];
}

/** An entry of the queue, or a child of one, by its name. */
interface Found {
  readonly index: number;
  readonly experiment: Experiment;
  /** Undefined for the experiment itself. */
  readonly child: string | undefined;
}

/**
 * Cancels experiments, or children, that have not ended.
 * @throws UserError for a name that is not there, or has ended.
 */
export function cancel(entries: readonly unknown[], names: readonly string[]): StatusChange {
  return change(entries, names, (found, state) => {
    if (ENDED.has(state)) return `has ended: it is ${state}`;
    return { found, status: "cancelled" };
  });
}

/**
 * Has experiments, or children, run again, together with those that were not started because of them.
 * @throws UserError for a name that is not there, or has not ended.
 */
export function retry(entries: readonly unknown[], names: readonly string[]): StatusChange {
  return change(entries, withDependants(entries, names), (found, state) =>
    ENDED.has(state) ? { found, status: "pending" } : `has not ended: it is ${state}`,
  );
}

type Decision = { readonly found: Found; readonly status: Status } | string;

function change(
  entries: readonly unknown[],
  names: readonly string[],
  decide: (found: Found, state: Status) => Decision,
): StatusChange {
  const { experiments } = readQueue(queueText(entries));
  const problems: string[][] = [];
  const decided: Exclude<Decision, string>[] = [];
  for (const name of names) {
    const found = find(entries, experiments, name);
    if (found === undefined) {
      problems.push([name, "is not in the queue", "npm run experiment -- status lists what is"]);
      continue;
    }
    const decision = decide(found, stateOf(found));
    if (typeof decision === "string")
      problems.push([name, decision, "npm run experiment -- status tells where it stands"]);
    else decided.push(decision);
  }
  if (problems.length > 0) {
    throw new UserError(
      problems.map(([name, reason = "", remedy = ""]) => ({ path: `experiment ${name}`, reason, remedy })),
      EXIT.refused,
      "queue",
    );
  }
  return {
    entries: entries.map((entry, index) =>
      withStatus(
        entry,
        decided.filter(({ found }) => found.index === index),
      ),
    ),
    changed: names,
  };
}

function find(entries: readonly unknown[], experiments: readonly Experiment[], name: string): Found | undefined {
  for (const experiment of experiments) {
    const index = entries.findIndex((entry) => isRecord(entry) && entry.name === experiment.name);
    if (experiment.name === name) return { index, experiment, child: undefined };
    const known =
      experiment.matrix !== undefined &&
      (childrenOf(experiment).some((child) => child.name === name) || experiment.children?.[name]);
    if (known) return { index, experiment, child: name };
  }
  return undefined;
}

function stateOf({ experiment, child }: Found): Status {
  return (child === undefined ? experiment.status : experiment.children?.[child]?.status) ?? "pending";
}

/** Changes the status alone: what runners wrote beside it stays, since attempts are counted on. */
function withStatus(entry: unknown, decisions: readonly { readonly found: Found; readonly status: Status }[]): unknown {
  if (!isRecord(entry) || decisions.length === 0) return entry;
  let changed: RawSettings = entry;
  for (const { found, status } of decisions) {
    const children = isRecord(changed.children) ? changed.children : {};
    if (found.child === undefined) changed = { ...changed, status, ...restarted(found.experiment, children, status) };
    else {
      const child = children[found.child];
      changed = { ...changed, children: { ...children, [found.child]: { ...(isRecord(child) ? child : {}), status } } };
      // The summary of a sweep that had ended: runners write it anew.
      if (status === "pending" && ENDED.has(found.experiment.status ?? "pending"))
        changed = { ...changed, status: "running" };
    }
  }
  return changed;
}

/** A sweep is run again where it did not complete; its completed children stay. */
function restarted({ matrix }: Experiment, children: RawSettings, status: Status): RawSettings {
  if (matrix === undefined || status !== "pending") return {};
  const again = Object.entries(children).map(([name, child]) => {
    const state = isRecord(child) ? STATUSES.find((each) => each === child.status) : undefined;
    const repeat = isRecord(child) && state !== undefined && ENDED.has(state) && state !== "completed";
    return [name, repeat ? { ...child, status: "pending" } : child];
  });
  return again.length === 0 ? {} : { children: Object.fromEntries(again) };
}

/** The names, and those which became an error because one of these had not completed. */
function withDependants(entries: readonly unknown[], names: readonly string[]): readonly string[] {
  const { experiments } = readQueue(queueText(entries));
  const wanted = new Set(names);
  for (let before = -1; before !== wanted.size; ) {
    before = wanted.size;
    for (const { name, status, attempt, needs, matrix } of experiments) {
      const waiting = status === "error" && attempt?.started_at === undefined && matrix === undefined;
      if (waiting && needs?.some((need) => wanted.has(need)) === true) wanted.add(name);
    }
  }
  return [...wanted];
}
