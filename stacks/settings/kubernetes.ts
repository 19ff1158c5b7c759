import { z } from "zod";
import { clusterFields, label, queueFields, storageFields } from "./cluster.ts";
import { NODE_GPU_NAMES } from "./gpu-nodes.ts";
import { size } from "./values.ts";

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

/** The block of the target `kubernetes`: any cluster that a kubeconfig leads to. */
export const kubernetesSchema = z.strictObject({
  /** Kubeconfig file; undefined is `~/.kube/config`. Environment: `KUBECONFIG`. */
  kubeconfig: z.string().min(1).optional(),
  /** Context of the kubeconfig; undefined is its current one. Example: `team-cluster`. */
  context: z.string().min(1).optional(),
  /** Registry and path that the images are pushed to and the nodes pull from. Example: `registry.example.com/ml`. */
  registry: z.string().regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d+)?(\/[a-z0-9]+([._-][a-z0-9]+)*)*$/, {
    error: "is no registry: write host and path without https:// and without a tag",
  }),
  /** Secret of the namespace with which the nodes pull; undefined where they need none. Example: `registry-login`. */
  pullSecret: z.string().min(1).optional(),
  ...clusterFields,
  queue: z.strictObject({
    /** Kinds of nodes with the quota in each, the preferred first. */
    pools: z.array(pool).min(1).max(16),
    ...queueFields,
  }),
  storage: z.strictObject({
    /** Storage class of volumes that several pods mount; undefined takes the cluster's default. Example: `nfs`. */
    sharedClass: z.string().min(1).optional(),
    /** `one-node` where every pod is on the same node, so that disks without ReadWriteMany do. Default: `several-nodes`. */
    spread: z.enum(["several-nodes", "one-node"]),
    ...storageFields,
  }),
  /** Runtime class by which a container sees GPUs without asking for one; gpu-monitor needs it. */
  runtimeClass: label.optional(),
});

export type PoolSettings = z.output<typeof pool>;
