import { createHash } from "node:crypto";
import type { VolumeName } from "../stacks/plan/types.ts";
import type { ClusterLayout } from "./layout.ts";
import type { Metadata } from "./objects.ts";

/** Labels and annotations by which a stack's objects are found again. */
export const LABELS = {
  name: "app.kubernetes.io/name",
  instance: "app.kubernetes.io/instance",
  partOf: "app.kubernetes.io/part-of",
  run: "tunestack.dev/run",
  /** Hash of all that a run was asked to do, its image apart. */
  specification: "tunestack.dev/specification",
  /** What a pod may reach: network policies go by these. */
  reaches: "reaches.tunestack.dev",
} as const;

/** What a pod reaches that is somebody in the cloud: who tells it who it is, and the cloud's own services. */
export const CLOUD_PEER = "cloud";

export const LOCAL_QUEUE = "runs";
export const SECRET_NAME = "tunestack";
/** The job of a run within its JobSet; short, since it is part of every pod's name. */
export const NODE_JOB = "node";

/** The longest name of a run's object whose pods, `NAME-node-0-99-abcde`, have names of at most 63 characters. */
const LONGEST_RUN_OBJECT = 63 - `-${NODE_JOB}-0-99-abcde`.length;

/** The name of a run's JobSet: the run's own, as far as it is a DNS label that leaves room for its pods' names. */
export function runObjectName(run: string): string {
  const lettered = /^[a-z]/.test(run) ? run : `run-${run}`;
  if (lettered.length <= LONGEST_RUN_OBJECT) return lettered;
  const hash = createHash("sha256").update(run).digest("hex").slice(0, 8);
  return `${lettered.slice(0, LONGEST_RUN_OBJECT - 9).replace(/-+$/, "")}-${hash}`;
}

/** A volume's claim. Example: `training-checkpoints`. */
export function claimName(volume: VolumeName): string {
  return volume.replaceAll("_", "-");
}

/** A name that the whole cluster shares begins with the stack's namespace. */
export function clusterName({ namespace }: Pick<ClusterLayout, "namespace">, name: string): string {
  return `${namespace}-${name}`;
}

export function labelsOf({ stack }: ClusterLayout, name: string): Readonly<Record<string, string>> {
  return { [LABELS.name]: name, ...stackLabels(stack) };
}

export function stackLabels(stack: string): Readonly<Record<string, string>> {
  return { [LABELS.instance]: stack, [LABELS.partOf]: "tunestack" };
}

/** Metadata of an object in the stack's namespace. */
export function inNamespace(layout: ClusterLayout, name: string, of = name): Metadata & { readonly namespace: string } {
  return { name, namespace: layout.namespace, labels: labelsOf(layout, of) };
}

/** Metadata of an object that belongs to the whole cluster. */
export function inCluster(layout: ClusterLayout, name: string): Metadata {
  return { name: clusterName(layout, name), labels: stackLabels(layout.stack) };
}
