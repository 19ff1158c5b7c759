import type * as gcp from "@pulumi/gcp";
import type * as pulumi from "@pulumi/pulumi";
import type { GkePool, GkeSettings } from "../../settings/gke.ts";
import { gpuNodeFacts } from "../../settings/gke-machines.ts";
import { RUNS_TAINT } from "./layout.ts";
import type { ClusterNames } from "./names.ts";
import { machineOf, poolName, zonesOf } from "./pools.ts";

const GIB = 2 ** 30;

type NodeConfig = gcp.types.input.container.NodePoolNodeConfig;

export interface PoolReferences {
  readonly cluster: pulumi.Input<string>;
  /** Mail of the nodes' account. */
  readonly nodeAccount: pulumi.Input<string>;
}

/** The nodes of the services; at least one is always there. */
export function renderCpuPool(
  names: ClusterNames,
  settings: GkeSettings,
  references: PoolReferences,
): gcp.container.NodePoolArgs {
  const { machineType, minimum, maximum, disk, confidential } = settings.cpuPool;
  return {
    ...renderPlace(names, "services", settings.zones, references),
    initialNodeCount: 1,
    autoscaling: { totalMinNodeCount: minimum, totalMaxNodeCount: maximum, locationPolicy: "BALANCED" },
    upgradeSettings: { strategy: "SURGE", maxSurge: 1, maxUnavailable: 0 },
    nodeConfig: {
      ...renderNode(names, settings, references, { machineType, disk }),
      ...(confidential ? { confidentialNodes: { enabled: true, confidentialInstanceType: "SEV" } } : {}),
    },
  };
}

/** Nodes of runs: none while nothing runs, then as many as runs need, in whichever zone has some. */
export function renderRunPool(
  names: ClusterNames,
  settings: GkeSettings,
  pool: GkePool,
  references: PoolReferences,
): gcp.container.NodePoolArgs {
  const { key, value } = RUNS_TAINT;
  return {
    ...renderPlace(names, poolName(pool), zonesOf(pool, settings.zones), references),
    initialNodeCount: 0,
    autoscaling: { totalMinNodeCount: 0, totalMaxNodeCount: pool.nodes, locationPolicy: "ANY" },
    // There may be no second GPU to put beside one that is upgraded.
    upgradeSettings: { strategy: "SURGE", maxSurge: 0, maxUnavailable: 1 },
    ...(pool.placement === "compact" ? { placementPolicy: { type: "COMPACT" } } : {}),
    nodeConfig: {
      ...renderNode(names, settings, references, { machineType: machineOf(pool).machineType, disk: pool.disk }),
      ...(pool.provisioning === "spot" ? { spot: true } : {}),
      ...(pool.gpu === "none" ? {} : { guestAccelerators: [renderGpu(pool, pool.gpu, settings)] }),
      ...(pool.confidential ? { confidentialNodes: renderConfidential(pool) } : {}),
      taints: [{ key, value, effect: "NO_SCHEDULE" }],
    },
  };
}

function renderPlace(
  names: ClusterNames,
  name: string,
  zones: readonly string[],
  { cluster }: PoolReferences,
): gcp.container.NodePoolArgs {
  return {
    project: names.project,
    location: names.location,
    cluster,
    name,
    nodeLocations: [...zones],
    management: { autoRepair: true, autoUpgrade: true },
  };
}

interface NodeShape {
  readonly machineType: string;
  /** Bytes. */
  readonly disk: number;
}

/** What every node has: an account of its own, Secure Boot, and no metadata that pods could take it from. */
function renderNode(
  { labels }: ClusterNames,
  { imageStreaming }: GkeSettings,
  { nodeAccount }: PoolReferences,
  { machineType, disk }: NodeShape,
): NodeConfig {
  return {
    machineType,
    imageType: "COS_CONTAINERD",
    diskType: "pd-balanced",
    diskSizeGb: Math.ceil(disk / GIB),
    serviceAccount: nodeAccount,
    // What it may do is told by its roles; a scope narrower than this would only hide them.
    oauthScopes: ["https://www.googleapis.com/auth/cloud-platform"],
    workloadMetadataConfig: { mode: "GKE_METADATA" },
    shieldedInstanceConfig: { enableSecureBoot: true, enableIntegrityMonitoring: true },
    kubeletConfig: { insecureKubeletReadonlyPortEnabled: "FALSE" },
    metadata: { "disable-legacy-endpoints": "true" },
    gcfsConfig: { enabled: imageStreaming },
    gvnic: { enabled: true },
    resourceLabels: labels,
  };
}

const SHARING = { "time-sharing": "TIME_SHARING", mps: "MPS" } as const;

/** GPUs of each node, with the driver that GKE installs before pods come, as wholes, parts, or shared. */
function renderGpu(
  { gpusPerNode, partition, sharing }: GkePool,
  gpu: Exclude<GkePool["gpu"], "none">,
  { gpuDriver }: GkeSettings,
): gcp.types.input.container.NodePoolNodeConfigGuestAccelerator {
  return {
    type: gpuNodeFacts(gpu).accelerator,
    count: gpusPerNode,
    gpuDriverInstallationConfig: { gpuDriverVersion: gpuDriver.toUpperCase() },
    ...(partition === undefined ? {} : { gpuPartitionSize: partition }),
    ...(sharing === undefined
      ? {}
      : {
          gpuSharingConfig: {
            gpuSharingStrategy: SHARING[sharing.strategy],
            maxSharedClientsPerGpu: sharing.clients,
          },
        }),
  };
}

function renderConfidential({ gpu }: GkePool) {
  return { enabled: true, confidentialInstanceType: gpu === "none" ? "SEV" : "TDX" };
}
