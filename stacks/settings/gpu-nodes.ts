import { GPU_TYPES } from "./gpu-types.ts";

/** A kind of GPU as the nodes of a cluster show it. */
export interface NodeGpu {
  /** Memory of one GPU in GiB. */
  readonly memoryGiB: number;
  /** Compute capability. */
  readonly computeCapability: number;
  /** Value of the node label `nvidia.com/gpu.product`, which NVIDIA's GPU Feature Discovery sets. */
  readonly product: string;
}

// Products: https://docs.nvidia.com/datacenter/cloud-native/gpu-operator and the names that NVML gives to these cards, with
// hyphens for spaces (read 2026-11-24). Where a cluster's cards are called otherwise, a pool names its own node labels.
export const NODE_GPUS = {
  T4: { ...facts("T4"), product: "Tesla-T4" },
  L4: { ...facts("L4"), product: "NVIDIA-L4" },
  "A100-40": { ...facts("A100-40"), product: "NVIDIA-A100-SXM4-40GB" },
  "A100-80": { ...facts("A100-80"), product: "NVIDIA-A100-SXM4-80GB" },
  H100: { ...facts("H100"), product: "NVIDIA-H100-80GB-HBM3" },
  "RTX-4090": { memoryGiB: 24, computeCapability: 8.9, product: "NVIDIA-GeForce-RTX-4090" },
} as const satisfies Readonly<Record<string, NodeGpu>>;

export type NodeGpuName = keyof typeof NODE_GPUS;

export const NODE_GPU_NAMES: readonly [NodeGpuName, ...NodeGpuName[]] = [
  "T4",
  "L4",
  "A100-40",
  "A100-80",
  "H100",
  "RTX-4090",
];

/** The resource that NVIDIA's device plugin offers, and the taint that keeps other pods off its nodes. */
export const GPU_RESOURCE = "nvidia.com/gpu";

function facts(type: keyof typeof GPU_TYPES): Omit<NodeGpu, "product"> {
  const { memoryGiB, computeCapability } = GPU_TYPES[type];
  return { memoryGiB, computeCapability };
}
