import type { Api, KubernetesObject } from "./api.ts";
import { KUBELET_ADDRESS } from "./kubelet.ts";

/** A pool of machines of one kind. */
export interface Pool {
  readonly name: string;
  readonly nodes: number;
  /** Capacity of one node, as Kubernetes counts it. */
  readonly capacity: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly taints: readonly { readonly key: string; readonly value: string; readonly effect: string }[];
}

/** Nodes of a test carry this label with the pool's name, so that tests side by side take no node from each other. */
export const POOL_LABEL = "test.tunestack.invalid/pool";

/** A pool with GPUs: with the labels and taints of GKE, and those of NVIDIA's GPU Feature Discovery. */
export function gpuPool(name: string, nodes: number, gpus = 1): Pool {
  return {
    name,
    nodes,
    capacity: { cpu: "48", memory: "192Gi", "ephemeral-storage": "200Gi", pods: "110", "nvidia.com/gpu": String(gpus) },
    labels: {
      "cloud.google.com/gke-accelerator": "nvidia-l4",
      "cloud.google.com/gke-accelerator-count": String(gpus),
      "cloud.google.com/gke-gpu-driver-version": "default",
      "nvidia.com/gpu.product": "NVIDIA-L4",
    },
    taints: [{ key: "nvidia.com/gpu", value: "present", effect: "NoSchedule" }],
  };
}

export function cpuPool(name: string, nodes: number): Pool {
  const capacity = { cpu: "32", memory: "128Gi", "ephemeral-storage": "100Gi", pods: "110" };
  return { name, nodes, capacity, labels: {}, taints: [] };
}

export function nodeOf(pool: Pool, index: number, kubelet: number): KubernetesObject {
  const name = `${pool.name}-${index}`;
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      name,
      annotations: { "kwok.x-k8s.io/node": "fake" },
      labels: {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": name,
        "cloud.google.com/gke-nodepool": pool.name,
        [POOL_LABEL]: pool.name,
        "topology.kubernetes.io/zone": "europe-west4-a",
        ...pool.labels,
      },
    },
    spec: { taints: pool.taints },
    status: {
      capacity: pool.capacity,
      allocatable: pool.capacity,
      addresses: [{ type: "InternalIP", address: KUBELET_ADDRESS }],
      daemonEndpoints: { kubeletEndpoint: { Port: kubelet } },
    },
  };
}

export async function addPools(api: Api, pools: readonly Pool[]): Promise<void> {
  for (const pool of pools) {
    await Promise.all(
      Array.from({ length: pool.nodes }, (_, index) => api.create(nodeOf(pool, index, api.access.kubelet))),
    );
  }
}
