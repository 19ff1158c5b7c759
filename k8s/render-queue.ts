import { GPU_RESOURCE } from "../stacks/settings/gpu-nodes.ts";
import type { ClusterLayout, NodePool } from "./layout.ts";
import { clusterName, inCluster, inNamespace, LOCAL_QUEUE } from "./names.ts";
import type {
  ClusterQueueObject,
  LocalQueueObject,
  Rendered,
  ResourceFlavorObject,
  WorkloadPriorityClassObject,
} from "./objects.ts";
import { quantity } from "./render-pod.ts";

const API = "kueue.x-k8s.io/v1beta2";

/** The queue of a stack's runs: kinds of nodes, what of each may be taken, and who goes first. */
export function renderQueue(layout: ClusterLayout): readonly Rendered[] {
  return [
    ...layout.pools.map((pool) => ({
      logicalName: `flavor-${pool.name}`,
      object: renderFlavor(layout, pool),
    })),
    { logicalName: "cluster-queue", object: renderClusterQueue(layout) },
    { logicalName: "local-queue", object: renderLocalQueue(layout) },
    ...renderPriorities(layout),
  ];
}

export function flavorName(layout: ClusterLayout, { name }: NodePool): string {
  return clusterName(layout, name);
}

function renderFlavor(layout: ClusterLayout, pool: NodePool): ResourceFlavorObject {
  const { nodeLabels, taints, tolerations } = pool;
  return {
    apiVersion: API,
    kind: "ResourceFlavor",
    metadata: inCluster(layout, pool.name),
    spec: {
      ...(Object.keys(nodeLabels).length === 0 ? {} : { nodeLabels }),
      ...(taints.length === 0 ? {} : { nodeTaints: taints }),
      ...(tolerations.length === 0 ? {} : { tolerations }),
    },
  };
}

/**
 * The pools in the order of preference: a run goes to the first that has room, then to the first in which it may take
 * the place of a lower priority, and waits where there is none.
 */
function renderClusterQueue(layout: ClusterLayout): ClusterQueueObject {
  const gpus = layout.pools.some(({ quota }) => quota.gpus > 0);
  return {
    apiVersion: API,
    kind: "ClusterQueue",
    metadata: inCluster(layout, LOCAL_QUEUE),
    spec: {
      ...(layout.cohort === undefined ? {} : { cohortName: layout.cohort }),
      namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": layout.namespace } },
      // A large run that waits does not hold up a small one that fits.
      queueingStrategy: "BestEffortFIFO",
      flavorFungibility: { whenCanBorrow: "TryNextFlavor", whenCanPreempt: "TryNextFlavor" },
      preemption: {
        withinClusterQueue: layout.preemption ? "LowerPriority" : "Never",
        // What was lent comes back when its owner needs it.
        reclaimWithinCohort: "Any",
        borrowWithinCohort: { policy: "Never" },
      },
      resourceGroups: [
        {
          coveredResources: ["cpu", "memory", ...(gpus ? [GPU_RESOURCE] : [])],
          flavors: layout.pools.map((pool) => ({
            name: flavorName(layout, pool),
            resources: [
              { name: "cpu", nominalQuota: String(pool.quota.cpus) },
              { name: "memory", nominalQuota: quantity(pool.quota.memoryBytes) },
              ...(gpus ? [{ name: GPU_RESOURCE, nominalQuota: String(pool.quota.gpus) }] : []),
            ],
          })),
        },
      ],
    },
  };
}

function renderLocalQueue(layout: ClusterLayout): LocalQueueObject {
  return {
    apiVersion: API,
    kind: "LocalQueue",
    metadata: inNamespace(layout, LOCAL_QUEUE),
    spec: { clusterQueue: clusterName(layout, LOCAL_QUEUE) },
  };
}

const PRIORITY_VALUES = { low: 100, normal: 1000, high: 10000 } as const;

function renderPriorities(layout: ClusterLayout): readonly Rendered[] {
  return (["low", "normal", "high"] as const).map((priority) => {
    const object: WorkloadPriorityClassObject = {
      apiVersion: API,
      kind: "WorkloadPriorityClass",
      metadata: inCluster(layout, priority),
      value: PRIORITY_VALUES[priority],
      description: `Runs of ${layout.namespace} that go ${WORDS[priority]}.`,
    };
    return { logicalName: `run-priority-${priority}`, object };
  });
}

const WORDS = { low: "when nothing else waits", normal: "in their turn", high: "first" } as const;
