/** A kind of GPU that Google Cloud rents, as the settings name it. */
export interface GpuType {
  /** Memory of one GPU in GiB. */
  readonly memoryGiB: number;
  /** Compute capability. */
  readonly computeCapability: number;
  /** Machine type with one GPU of this kind that holds a fine-tune and its services. */
  readonly machineType: string;
  /** Google's name of the accelerator, where it is attached to the machine; undefined where the machine type brings it. */
  readonly accelerator: string | undefined;
  /** One GPU of this kind cannot be had at the standard price. */
  readonly spotOnly: boolean;
}

// Machine types: https://cloud.google.com/compute/docs/accelerator-optimized-machines and
// https://cloud.google.com/compute/docs/gpus (read 2026-11-24).
export const GPU_TYPES = {
  T4: {
    memoryGiB: 16,
    computeCapability: 7.5,
    machineType: "n1-standard-8",
    accelerator: "nvidia-tesla-t4",
    spotOnly: false,
  },
  L4: { memoryGiB: 24, computeCapability: 8.9, machineType: "g2-standard-8", accelerator: undefined, spotOnly: false },
  "A100-40": {
    memoryGiB: 40,
    computeCapability: 8.0,
    machineType: "a2-highgpu-1g",
    accelerator: undefined,
    spotOnly: false,
  },
  "A100-80": {
    memoryGiB: 80,
    computeCapability: 8.0,
    machineType: "a2-ultragpu-1g",
    accelerator: undefined,
    spotOnly: false,
  },
  H100: { memoryGiB: 80, computeCapability: 9.0, machineType: "a3-highgpu-1g", accelerator: undefined, spotOnly: true },
} as const satisfies Readonly<Record<string, GpuType>>;

export type GpuTypeName = keyof typeof GPU_TYPES;

export const GPU_TYPE_NAMES: readonly [GpuTypeName, ...GpuTypeName[]] = ["T4", "L4", "A100-40", "A100-80", "H100"];

/** Compute capability from which on a GPU computes in bf16. */
export const BF16_CAPABILITY = 8.0;
