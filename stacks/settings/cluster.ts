import { z } from "zod";
import { NODE_GPU_NAMES } from "./gpu-nodes.ts";
import { size } from "./values.ts";

/** Names of namespaces, queues and classes: RFC 1123 labels. */
const label = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, {
  error: "is no name in Kubernetes: lower-case letters, digits and hyphens, at most 63, no hyphen at either end",
});

const nodeLabels = z.record(
  z.string().regex(/^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/, {
    error: "is no name of a node label",
  }),
  z.string().regex(/^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/, { error: "is no value of a node label" }),
);

/** Nodes of one kind, and how much of them the runs of this stack may take together. */
const pool = z.strictObject({
  /** Kind of GPU; `none` for nodes without. */
  gpu: z.enum([...NODE_GPU_NAMES, "none"]),
  /** `spot` nodes are cheaper and may be taken away at any time. Default: `standard`. */
  provisioning: z.enum(["spot", "standard"]).default("standard"),
  /** How many GPUs. Example: 4. */
  gpus: z.int().min(0).max(100_000).default(1),
  /** How many CPU cores. Default: 16. */
  cpus: z.int().min(1).max(1_000_000).default(16),
  /** How much memory. Default: `64GiB`. */
  memory: size.prefault("64GiB"),
  /** Labels of these nodes, where they are not those of NVIDIA's GPU Feature Discovery. */
  nodeLabels: nodeLabels.optional(),
  /** Keys of the taints that keep other pods off these nodes, beside `nvidia.com/gpu`. Example: `[example.com/spot]`. */
  taints: z.array(z.string().min(1)).default([]),
});

const VOLUMES = [
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
  queue: z.strictObject({
    /** Cohort of queues that lend each other what they do not use; undefined shares with nobody. Example: `research`. */
    cohort: label.optional(),
    /** Kinds of nodes with the quota in each, the preferred first. */
    pools: z.array(pool).min(1).max(16),
    /** A run of a higher priority takes the place of one of a lower, which goes on later. Default: true. */
    preemption: z.boolean(),
  }),
  storage: z.strictObject({
    /** Storage class of volumes that several pods mount; undefined takes the cluster's default. Example: `nfs`. */
    sharedClass: z.string().min(1).optional(),
    /** Storage class of volumes that one pod mounts; undefined takes the cluster's default. Example: `standard`. */
    singleClass: z.string().min(1).optional(),
    /** `one-node` where every pod is on the same node, so that disks without ReadWriteMany do. Default: `several-nodes`. */
    spread: z.enum(["several-nodes", "one-node"]),
    /** Size of each volume. */
    sizes: z.strictObject(Object.fromEntries(VOLUMES.map((name) => [name, size])) as Record<Volume, typeof size>),
  }),
  /** Runtime class by which a container sees GPUs without asking for one; gpu-monitor needs it. */
  runtimeClass: label.optional(),
  /** Namespace of a Prometheus that may read the metrics; undefined lets nobody. Example: `monitoring`. */
  metricsFrom: label.optional(),
} as const;

type Volume = (typeof VOLUMES)[number];

const clusterSchema = z.strictObject(clusterFields);
export type ClusterSettings = z.output<typeof clusterSchema>;
export type PoolSettings = ClusterSettings["queue"]["pools"][number];
