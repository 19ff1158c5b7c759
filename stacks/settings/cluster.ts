import { z } from "zod";
import { size } from "./values.ts";

/** Names of namespaces, queues and classes: RFC 1123 labels. */
export const label = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, {
  error: "is no name in Kubernetes: lower-case letters, digits and hyphens, at most 63, no hyphen at either end",
});

export const VOLUMES = [
  "training_models_cache",
  "training_models_gguf",
  "training_checkpoints",
  "training_logs",
  "training_backup",
  "training_wandb",
] as const;

/** What the targets `kubernetes` and `gke` have in common. */
export const clusterFields = {
  /** Namespace of the stack. Default: `tunestack-` and the stack's name. */
  namespace: label.optional(),
  /** `jobset` runs a run as a JobSet, `trainjob` as a TrainJob of Kubeflow Trainer. Default: `jobset`. */
  runAs: z.enum(["jobset", "trainjob"]),
  /** What each run asks for. `training.memory` sets its memory where it is set. */
  run: z.strictObject({
    /** Nodes of a run, which torchrun brings together. Default: 1. */
    nodes: z.int().min(1).max(1000),
    /** GPUs on each node; a run on CPUs has one process on each. Default: 1. */
    gpus: z.int().min(1).max(16),
    /** CPU cores on each node. Default: 4. */
    cpus: z.int().min(1).max(256),
    /** Memory on each node. Default: `24GiB`. */
    memory: size,
    /** Which runs go first, and may take the place of others: `low`, `normal` or `high`. Default: `normal`. */
    priority: z.enum(["low", "normal", "high"]),
  }),
  /** Namespace of a Prometheus that may read the metrics; undefined lets nobody. Example: `monitoring`. */
  metricsFrom: label.optional(),
} as const;

/** What a stack's queue has on every cluster, beside its kinds of nodes. */
export const queueFields = {
  /** Cohort of queues that lend each other what they do not use; undefined shares with nobody. Example: `research`. */
  cohort: label.optional(),
  /** A run of a higher priority takes the place of one of a lower, which goes on later. Default: true. */
  preemption: z.boolean(),
} as const;

type Volume = (typeof VOLUMES)[number];

/** What a stack's volumes have on every cluster. */
export const storageFields = {
  /** Storage class of volumes that one pod mounts; undefined takes the cluster's default. Example: `standard`. */
  singleClass: z.string().min(1).optional(),
  /** Size of each volume. */
  sizes: z.strictObject(Object.fromEntries(VOLUMES.map((name) => [name, size])) as Record<Volume, typeof size>),
} as const;

const clusterSchema = z.strictObject({
  ...clusterFields,
  queue: z.strictObject(queueFields),
  storage: z.strictObject(storageFields),
});
export type ClusterSettings = z.output<typeof clusterSchema>;
