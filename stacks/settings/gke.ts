import { z } from "zod";
import { clusterFields, queueFields, storageFields, VOLUMES } from "./cluster.ts";
import { canBeConfidential, cpuMachine, gpuMachine, gpuNodeFacts } from "./gke-machines.ts";
import { cloudFields, zone, zoneProblems } from "./google-cloud.ts";
import { GPU_TYPE_NAMES } from "./gpu-types.ts";
import { size } from "./values.ts";

/** A kind of node that runs go to: a node pool that has no node while nothing runs on it. */
const nodePool = z.strictObject({
  /** Kind of GPU; `none` for nodes without. */
  gpu: z.enum([...GPU_TYPE_NAMES, "none"]),
  /** `spot` nodes are cheaper and may be taken away at any time. Default: `standard`. */
  provisioning: z.enum(["spot", "standard"]).default("standard"),
  /** How many nodes there may be at once, over all zones; the quota of runs is what fits on them. Default: 1. */
  nodes: z.int().min(1).max(1000).default(1),
  /** GPUs of each node, which says the machine type. Default: 1. */
  gpusPerNode: z.int().min(1).max(8).default(1),
  /** Machine type of nodes without a GPU. Default: `n2-standard-8`. */
  machineType: z.string().default("n2-standard-8"),
  /** Disk for the system, images and what containers write outside of volumes. Default: `100GiB`. */
  disk: size.prefault("100GiB"),
  /** Zones of these nodes; undefined takes those of the cluster that are known to have the GPU. */
  zones: z.array(zone).min(1).optional(),
  /** `compact` places the nodes near to each other, in the first of their zones, for runs on several. Default: `spread`. */
  placement: z.enum(["spread", "compact"]).default("spread"),
  /** Several runs on one GPU at a time, which share its memory without being kept apart; undefined gives each its own. */
  sharing: z
    .strictObject({
      /** `time-sharing` gives each the whole GPU in turns, `mps` lets them compute at once. Default: `time-sharing`. */
      strategy: z.enum(["time-sharing", "mps"]).default("time-sharing"),
      /** How many runs a GPU takes. Example: 4. */
      clients: z.int().min(2).max(48),
    })
    .optional(),
  /** Size of the parts into which each GPU is cut (MIG), which run beside each other and apart. Example: `3g.40gb`. */
  partition: z.string().optional(),
  /** Memory that the host cannot read: Intel TDX, for H100 alone; AMD SEV, for n2d machines. Default: false. */
  confidential: z.boolean().default(false),
});

export type GkePool = z.output<typeof nodePool>;

/** Volumes that a bucket can hold: files that are written once and read whole, without renaming folders or appending. */
const IN_BUCKETS = ["training_models_cache", "training_models_gguf", "training_backup"] as const;

const fields = z.strictObject({
  ...cloudFields,
  /** Zones of the region in which there are nodes. */
  zones: z.array(zone).min(1),
  /** `regional` has the control plane in every zone, `zonal` in the first alone, which an upgrade takes away for minutes. */
  location: z.enum(["regional", "zonal"]),
  /** How early Google brings new versions: `rapid`, `regular`, `stable` or `extended`. Default: `regular`. */
  releaseChannel: z.enum(["rapid", "regular", "stable", "extended"]),
  /** Time of the day, in UTC, from which on Google may upgrade for four hours. Default: `03:00`. */
  maintenance: z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, { error: "is no time of the day: write it as 03:00" }),
  /** Private addresses of pods and services. Defaults: `10.20.0.0/16`, `10.30.0.0/20`. */
  podRange: z.cidrv4({ error: "is no range of addresses: write it as 10.20.0.0/16" }),
  serviceRange: z.cidrv4({ error: "is no range of addresses: write it as 10.30.0.0/20" }),
  /**
   * How the API server is reached. `dns`: by a name of Google's, which lets through whom IAM lets connect. `private`: from
   * within the network alone, by a machine or VPN of yours. It has no public address either way. Default: `dns`.
   */
  endpoint: z.enum(["dns", "private"]),
  /** Google refuses to delete the cluster while this is true. Default: true. */
  deletionProtection: z.boolean(),
  /** Containers start before their image is there in full. Default: true. */
  imageStreaming: z.boolean(),
  /** Version of NVIDIA's driver that GKE installs: the newest, or the default one of the node's version. Default: `latest`. */
  gpuDriver: z.enum(["latest", "default"]),
  /** Registry of the charts and images of JobSet and Kueue: Kubernetes' own, or a mirror of it. Default: `registry.k8s.io`. */
  controllerRegistry: z.string().regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d+)?(\/[a-z0-9]+([._-][a-z0-9]+)*)*$/, {
    error: "is no registry: write host and path without https:// and without a tag",
  }),
  /** Nodes of the services, and of what runs the cluster. */
  cpuPool: z.strictObject({
    /** Default: `e2-standard-8`. */
    machineType: z.string(),
    /** Fewest and most nodes, over all zones. Defaults: 1 and 3. */
    minimum: z.int().min(1).max(1000),
    maximum: z.int().min(1).max(1000),
    /** Default: `100GiB`. */
    disk: size,
    /** Memory that the host cannot read (AMD SEV), for n2d machines. Default: false. */
    confidential: z.boolean(),
  }),
  ...clusterFields,
  queue: z.strictObject({
    /** Kinds of nodes that runs may go to, the preferred first. */
    pools: z.array(nodePool).min(1).max(16),
    ...queueFields,
  }),
  storage: z.strictObject({
    /**
     * Tier of Filestore for volumes that several pods mount: `basic` makes an instance for each, from 100 GiB, in one zone;
     * `zonal` a faster one, from 1 TiB; `enterprise` puts up to ten, from 100 GiB to 1 TiB each, on one regional instance
     * of at least 1 TiB. Default: `basic`.
     */
    filestore: z.enum(["basic", "zonal", "enterprise"]),
    /** Volumes that lie in buckets of their own, mounted by Cloud Storage FUSE. Default: `[training_models_gguf, training_backup]`. */
    inBuckets: z.array(z.enum(IN_BUCKETS)),
    ...storageFields,
  }),
});

export type GkeSettings = z.output<typeof fields>;

type Tell = (path: (string | number)[], message: string, remedy: string) => void;

/** The block of the target `gke`, with what its fields say of each other. */
export const gkeSchema = fields.superRefine((settings, context) => {
  const tell: Tell = (path, message, remedy) => context.addIssue({ code: "custom", path, message, params: { remedy } });
  for (const [index, reason, remedy] of zoneProblems(settings)) tell(["zones", index], reason, remedy);
  tellCpuPool(settings, tell);
  for (const [index, pool] of settings.queue.pools.entries())
    tellPool(pool, settings, (path, message, remedy) => tell(["queue", "pools", index, ...path], message, remedy));
});

const MACHINE_REMEDY = "name a machine of the families e2, n2 or n2d, such as n2-standard-8";

function tellCpuPool({ cpuPool }: GkeSettings, tell: Tell): void {
  const { machineType, minimum, maximum, confidential } = cpuPool;
  if (cpuMachine(machineType) === undefined)
    tell(["cpuPool", "machineType"], "is no machine type that is known here", MACHINE_REMEDY);
  if (maximum < minimum)
    tell(["cpuPool", "maximum"], `is less than gke.cpuPool.minimum, ${minimum}`, `choose at least ${minimum}`);
  if (confidential && !canBeConfidential(machineType))
    tell(["cpuPool", "confidential"], `is not to be had with ${machineType}`, "set machineType to n2d-standard-8");
}

function tellPool(pool: GkePool, settings: GkeSettings, tell: Tell): void {
  const outside = (pool.zones ?? []).findIndex((one) => !settings.zones.includes(one));
  if (outside >= 0)
    tell(["zones", outside], "is no zone of the cluster", `name some of gke.zones: ${settings.zones.join(", ")}`);
  if (pool.gpu === "none") tellPlainPool(pool, tell);
  else tellGpuPool(pool, pool.gpu, settings, tell);
}

function tellPlainPool({ machineType, placement, sharing, partition, confidential }: GkePool, tell: Tell): void {
  if (cpuMachine(machineType) === undefined)
    tell(["machineType"], "is no machine type that is known here", MACHINE_REMEDY);
  if (sharing !== undefined) tell(["sharing"], "is about a GPU, and these nodes have none", "take it out");
  if (partition !== undefined) tell(["partition"], "is about a GPU, and these nodes have none", "take it out");
  if (placement === "compact" && machineType.startsWith("e2-"))
    tell(["placement"], "is not to be had with e2 machines", "set machineType to n2-standard-8, or take it out");
  if (confidential && !canBeConfidential(machineType))
    tell(["confidential"], `is not to be had with ${machineType}`, "set machineType to n2d-standard-8");
}

function tellGpuPool(pool: GkePool, gpu: Exclude<GkePool["gpu"], "none">, { run }: GkeSettings, tell: Tell): void {
  const facts = gpuNodeFacts(gpu);
  const machine = gpuMachine(gpu, pool.gpusPerNode);
  const counts = facts.machines.map(({ gpus }) => gpus).join(", ");
  if (machine === undefined)
    tell(["gpusPerNode"], `is no number of ${gpu} that a machine has`, `choose one of ${counts}`);
  if (machine?.spotOnly === true && pool.provisioning !== "spot")
    tell(["provisioning"], `cannot be had for ${pool.gpusPerNode} ${gpu}`, "set it to spot, or gpusPerNode to 8");
  const sizes = Object.keys(facts.partitions);
  if (pool.partition !== undefined && !sizes.includes(pool.partition))
    tell(
      ["partition"],
      sizes.length === 0 ? `cannot be had: ${gpu} cannot be cut` : `is no part of ${gpu}`,
      sizes.length === 0 ? "take it out, or set sharing" : `choose one of ${sizes.join(", ")}`,
    );
  if (pool.sharing?.strategy === "mps" && pool.partition !== undefined)
    tell(
      ["sharing", "strategy"],
      "is not to be had for parts of a GPU",
      "set it to time-sharing, or take partition out",
    );
  if ((pool.sharing !== undefined || pool.partition !== undefined) && run.gpus > 1)
    tell(
      [pool.sharing === undefined ? "partition" : "sharing"],
      `gives a run one part of a GPU, and gke.run.gpus asks for ${run.gpus}`,
      "set gke.run.gpus to 1, or take it out",
    );
  if (pool.placement === "compact" && !facts.compact)
    tell(["placement"], `is not to be had for ${gpu}`, "take it out, or choose another kind of GPU");
  if (pool.confidential && (!facts.confidential || pool.gpusPerNode !== 1))
    tell(["confidential"], `is not to be had for ${pool.gpusPerNode} ${gpu}`, "take it out, or choose one H100 a node");
}

const SERVICES = [
  "artifactregistry",
  "compute",
  "container",
  "file",
  "iam",
  "logging",
  "monitoring",
  "storage",
] as const;

/** The services of Google's that a cluster's stack needs, which a new project has switched off. */
export function clusterServices({ budget }: Pick<GkeSettings, "budget">): readonly string[] {
  return [...SERVICES, ...(budget === undefined ? [] : ["billingbudgets"])];
}

/** The driver that makes Filestore's shares: https://github.com/kubernetes-sigs/gcp-filestore-csi-driver. */
export const FILESTORE_DRIVER = "filestore.csi.storage.gke.io";

/** Volumes that several pods mount and that lie on Filestore. */
export function onFilestore({ storage }: Pick<GkeSettings, "storage">): readonly (typeof VOLUMES)[number][] {
  const elsewhere: readonly string[] = [...storage.inBuckets, "training_wandb"];
  return VOLUMES.filter((name) => !elsewhere.includes(name));
}
