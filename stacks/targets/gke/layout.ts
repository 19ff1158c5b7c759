import type { ClaimLayout, ClusterLayout, NodePool, StorageClassLayout } from "../../../k8s/layout.ts";
import { clusterName } from "../../../k8s/names.ts";
import type { Taint, Toleration } from "../../../k8s/objects.ts";
import { commonLayout } from "../../../k8s/settings.ts";
import type { Plan, VolumeName } from "../../plan/types.ts";
import { FILESTORE_DRIVER, type GkePool, type GkeSettings } from "../../settings/gke.ts";
import { GPU_RESOURCE } from "../../settings/gpu-nodes.ts";
import type { InputsOf } from "../../settings/load.ts";
import { accountEmail } from "../google-cloud/names.ts";
import { cloudAccounts } from "./accounts.ts";
import { type BucketVolume, type ClusterNames, volumeBucket } from "./names.ts";
import { poolName, quotaOf } from "./pools.ts";

/** The cluster that the settings describe, as the stack's objects use it. */
export function gkeLayout({ stack, settings }: InputsOf<"gke">, plan: Plan, names: ClusterNames): ClusterLayout {
  const { gke, training } = settings;
  const common = commonLayout(stack, gke, training.memory);
  return {
    ...common,
    pools: gke.queue.pools.map(nodePool),
    claims: claimLayouts(gke, names, clusterName(common, FILES)),
    storageClasses: [filestoreClass(gke, names)],
    identities: Object.fromEntries(
      cloudAccounts(plan, gke, names).map(({ workload, id }) => [
        workload,
        { "iam.gke.io/gcp-service-account": accountEmail(names, id) },
      ]),
    ),
    // Nodes pull by their own account.
    pullSecret: undefined,
    // GKE shows a container only GPUs that it asks for.
    runtimeClass: undefined,
  };
}

/** By its name GKE finds the pool's nodes, and makes one where there is none. */
const POOL_LABEL = "cloud.google.com/gke-nodepool";
/** GKE sets it on nodes with GPUs by itself. */
const GPU_TOLERATION: Toleration = { key: GPU_RESOURCE, operator: "Exists", effect: "NoSchedule" };
/** What only runs go to; a service would keep a node of a run alive. */
export const RUNS_TAINT: Taint = { key: "tunestack.dev/runs", value: "true", effect: "NoSchedule" };

function nodePool(pool: GkePool): NodePool {
  const { gpu, provisioning } = pool;
  const { key, value, effect } = RUNS_TAINT;
  return {
    name: poolName(pool),
    spot: provisioning === "spot",
    nodeLabels: { [POOL_LABEL]: poolName(pool) },
    taints: [],
    tolerations: [{ key, operator: "Equal", value, effect }, ...(gpu === "none" ? [] : [GPU_TOLERATION])],
    quota: quotaOf(pool),
  };
}

/** Volumes that pods of one service alone mount; those of a run, of backups and of readers are on several nodes. */
const SINGLE: readonly VolumeName[] = ["training_wandb"];
const FILES = "files";

function claimLayouts({ storage }: GkeSettings, names: ClusterNames, filesClass: string): ClusterLayout["claims"] {
  const claim = (name: VolumeName): ClaimLayout => {
    const single = SINGLE.includes(name);
    const inBucket = storage.inBuckets.find((volume) => volume === name);
    return {
      storageClass: single ? storage.singleClass : filesClass,
      bucket: inBucket === undefined ? undefined : volumeBucket(names, inBucket satisfies BucketVolume),
      accessMode: single ? "ReadWriteOnce" : "ReadWriteMany",
      bytes: storage.sizes[name],
    };
  };
  return {
    training_models_cache: claim("training_models_cache"),
    training_models_gguf: claim("training_models_gguf"),
    training_checkpoints: claim("training_checkpoints"),
    training_logs: claim("training_logs"),
    training_backup: claim("training_backup"),
    training_wandb: claim("training_wandb"),
  };
}

/** As the driver names them: https://github.com/kubernetes-sigs/gcp-filestore-csi-driver (commit 2edb466, read 2026-11-30). */
const TIERS: Readonly<Record<GkeSettings["storage"]["filestore"], Readonly<Record<string, string>>>> = {
  basic: { tier: "standard" },
  zonal: { tier: "zonal" },
  enterprise: { tier: "enterprise", multishare: "true" },
};

/** The classes that GKE has ready are for the network `default`; this one is for the stack's own. */
function filestoreClass({ storage }: GkeSettings, { prefix, labels }: ClusterNames): StorageClassLayout {
  const marks = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return {
    name: FILES,
    provisioner: FILESTORE_DRIVER,
    parameters: { ...TIERS[storage.filestore], network: prefix, labels: marks.join(",") },
  };
}
