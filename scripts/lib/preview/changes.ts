import type { EngineEvent, StepEventMetadata } from "@pulumi/pulumi/automation/index.js";
import type { Operation, PreviewedResource } from "../../../policy/types.ts";
import { leavesOf } from "../../../policy/values.ts";
import { showInput, valueAt } from "./values.ts";

export interface PropertyChange {
  /** Example: `ports[0].external`. */
  readonly path: string;
  readonly kind: "added" | "removed" | "changed";
  readonly before: string | undefined;
  readonly after: string | undefined;
  /** This change alone makes the resource be replaced. */
  readonly replaces: boolean;
}

/** A resource of the stack with what would change of it. */
export interface ResourceChange extends PreviewedResource {
  readonly properties: readonly PropertyChange[];
}

/** What a step of Pulumi's does to its resource; a replacement's own parts are told by its `replace`. */
const OPERATIONS: Readonly<Record<string, Operation>> = {
  same: "same",
  read: "same",
  refresh: "same",
  import: "same",
  create: "create",
  update: "update",
  replace: "replace",
  delete: "delete",
};

const ORDER: readonly Operation[] = ["delete", "replace", "update", "create", "same"];

/**
 * The resources of a preview by its engine events: what is lost first, then by name. Left out are components, and the
 * providers that Pulumi makes by itself: they are nothing outside of its state.
 */
export function readChanges(events: readonly EngineEvent[]): readonly ResourceChange[] {
  const steps = events.flatMap(({ resourcePreEvent }) =>
    resourcePreEvent === undefined ? [] : [resourcePreEvent.metadata],
  );
  const found = steps.flatMap((step) => {
    // What is replaced because of another replacement has its reason in this step alone.
    const reason = steps.find(({ op, urn }) => op === "create-replacement" && urn === step.urn);
    return readStep(step, reason) ?? [];
  });
  return found.sort(byOrder);
}

function byOrder(a: ResourceChange, b: ResourceChange): number {
  const operations = ORDER.indexOf(a.operation) - ORDER.indexOf(b.operation);
  if (operations !== 0) return operations;
  return a.name === b.name ? (a.type < b.type ? -1 : 1) : a.name < b.name ? -1 : 1;
}

function readStep(step: StepEventMetadata, reason: StepEventMetadata | undefined): ResourceChange | undefined {
  const operation = OPERATIONS[step.op];
  // The engine's JSON has null where the types say undefined.
  const before = step.old ?? undefined;
  const after = step.new ?? undefined;
  const state = after ?? before;
  if (operation === undefined || state === undefined || state.custom !== true) return undefined;
  const name = step.urn.split("::").at(-1) ?? step.urn;
  if (step.type.startsWith("pulumi:providers:") && name.startsWith("default")) return undefined;
  return {
    name,
    type: step.type,
    operation,
    inputs: state.inputs,
    before: before?.inputs,
    // What stands in the state decides over what happens to the old one.
    retainOnDelete: (before ?? state).retainOnDelete === true,
    protect: (before ?? state).protect === true,
    properties: operation === "update" || operation === "replace" ? readProperties(step, reason?.keys ?? []) : [],
  };
}

function readProperties(step: StepEventMetadata, reasons: readonly string[]): readonly PropertyChange[] {
  const replacing = new Set([...(step.keys ?? []), ...reasons]);
  const detailed = Object.entries(step.detailedDiff ?? {});
  const changes =
    detailed.length > 0
      ? detailed.map(([path, { diffKind }]) => ({ path, replaces: diffKind.endsWith("-replace") }))
      : [...new Set([...(step.diffs ?? []), ...replacing])].map((path) => ({ path, replaces: replacing.has(path) }));
  return changes
    .flatMap(({ path, replaces }) => propertyChanges(step, path, replaces))
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** The leaves that differ below a path; a provider may name a whole list where one port in it changes. */
function propertyChanges(step: StepEventMetadata, path: string, replaces: boolean): readonly PropertyChange[] {
  const inputs = valueAt(step.old?.inputs, path);
  const before = inputs ?? valueAt(step.old?.outputs, path);
  const after = valueAt(step.new?.inputs, path);
  if (inputs === undefined || typeof before !== "object" || typeof after !== "object") {
    return [propertyChange(path, before, after, replaces)];
  }
  const leaves = (value: unknown) => new Map(leavesOf(value, path).map((leaf) => [leaf.path, leaf.value]));
  const [old, next] = [leaves(before), leaves(after)];
  const paths = [...new Set([...old.keys(), ...next.keys()])].filter((leaf) => old.get(leaf) !== next.get(leaf));
  if (paths.length === 0) return [propertyChange(path, before, after, replaces)];
  return paths.map((leaf) => propertyChange(leaf, old.get(leaf), next.get(leaf), replaces));
}

function propertyChange(path: string, before: unknown, after: unknown, replaces: boolean): PropertyChange {
  const kind = isAbsent(before) ? "added" : isAbsent(after) ? "removed" : "changed";
  return { path, kind, before: showInput(path, before), after: showInput(path, after), replaces };
}

function isAbsent(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === "object" && leavesOf(value).length === 0);
}

/** The errors that Pulumi and our program told during a preview, each once, in their order. */
export function readErrors(events: readonly EngineEvent[]): readonly string[] {
  const errors = events.flatMap(({ diagnosticEvent }) =>
    diagnosticEvent?.severity === "error" ? [diagnosticEvent.message.trim()] : [],
  );
  return [...new Set(errors)];
}
