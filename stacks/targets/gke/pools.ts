import type { GkePool } from "../../settings/gke.ts";
import {
  cpuMachine,
  gpuMachine,
  gpuNodeFacts,
  type NodeMachine,
  roomOn,
  zonesWith,
} from "../../settings/gke-machines.ts";

/** The name of a node pool, by what is peculiar to its nodes: another kind of node is another pool. Example: `l4-spot`. */
export function poolName(pool: GkePool): string {
  const { gpu, provisioning, gpusPerNode, partition, sharing, placement, confidential } = pool;
  return [
    gpu === "none" ? pool.machineType : gpu.toLowerCase(),
    provisioning,
    ...(gpusPerNode === 1 ? [] : [`x${gpusPerNode}`]),
    ...(partition === undefined ? [] : [partition.replaceAll(".", "-")]),
    ...(sharing === undefined ? [] : [SHARING[sharing.strategy]]),
    ...(placement === "compact" ? ["near"] : []),
    ...(confidential ? ["sealed"] : []),
  ].join("-");
}

const SHARING = { "time-sharing": "shared", mps: "mps" } as const;

/** The machine of a pool's nodes, which the settings have made sure of. */
export function machineOf({ gpu, gpusPerNode, machineType }: GkePool): NodeMachine {
  const machine = gpu === "none" ? cpuMachine(machineType) : gpuMachine(gpu, gpusPerNode);
  if (machine === undefined) throw new Error(`no machine is known for ${gpusPerNode} ${gpu} (${machineType})`);
  return machine;
}

/** GPUs that pods see on each node: whole ones, parts of them, or one for each run that shares one. */
export function gpusSeen({ gpu, gpusPerNode, partition, sharing }: GkePool): number {
  if (gpu === "none") return 0;
  const parts = partition === undefined ? 1 : (gpuNodeFacts(gpu).partitions[partition]?.count ?? 1);
  return gpusPerNode * parts * (sharing?.clients ?? 1);
}

/** What runs may take of a pool: all that fits on as many nodes as there may be. */
export function quotaOf(pool: GkePool): { readonly gpus: number; readonly cpus: number; readonly memoryBytes: number } {
  const { cpus, memoryBytes } = roomOn(machineOf(pool));
  return { gpus: pool.nodes * gpusSeen(pool), cpus: pool.nodes * cpus, memoryBytes: pool.nodes * memoryBytes };
}

/** Zones of a pool's nodes: those that are set, or those of the cluster that are known to have its GPU; near to each other is in one. */
export function zonesOf(pool: GkePool, clusterZones: readonly string[]): readonly string[] {
  const zones = pool.zones ?? (pool.gpu === "none" ? clusterZones : zonesWith(pool.gpu, clusterZones));
  return pool.placement === "compact" ? zones.slice(0, 1) : zones;
}
