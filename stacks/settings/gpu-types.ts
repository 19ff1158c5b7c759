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
  /** Zones that are known to have it. */
  readonly zones: readonly string[];
  /** How Compute Engine calls the quota for it: `NVIDIA_L4_GPUS`, with `PREEMPTIBLE_` before it for spot. */
  readonly quota: string;
  /** One GPU of this kind cannot be had at the standard price. */
  readonly spotOnly: boolean;
}

// Machine types: https://cloud.google.com/compute/docs/accelerator-optimized-machines and
// https://cloud.google.com/compute/docs/gpus (read 2026-11-24). Zones, as far as their region has a price below: T4 and L4
// from gcloud's own listing in https://github.com/Cyclenerd/google-cloud-pricing-cost-calculator (tools/, 2023-05-02),
// A100 and H100 from https://github.com/skypilot-org/skypilot-catalog (catalogs/v8/gcp/vms.csv, commit 006059e); Google
// adds zones, so what is missing here may be there: npm run doctor asks Google itself.
export const GPU_TYPES = {
  T4: {
    memoryGiB: 16,
    computeCapability: 7.5,
    machineType: "n1-standard-8",
    accelerator: "nvidia-tesla-t4",
    quota: "NVIDIA_T4_GPUS",
    zones: [
      "asia-southeast1-a",
      "asia-southeast1-b",
      "asia-southeast1-c",
      "europe-west4-a",
      "europe-west4-b",
      "europe-west4-c",
      "us-central1-a",
      "us-central1-b",
      "us-central1-c",
      "us-central1-f",
      "us-east1-a",
      "us-east1-c",
      "us-east1-d",
      "us-east4-a",
      "us-east4-b",
      "us-east4-c",
      "us-west1-a",
      "us-west1-b",
      "us-west4-a",
      "us-west4-b",
    ],
    spotOnly: false,
  },
  L4: {
    memoryGiB: 24,
    computeCapability: 8.9,
    machineType: "g2-standard-8",
    accelerator: undefined,
    quota: "NVIDIA_L4_GPUS",
    zones: [
      "asia-southeast1-b",
      "europe-west4-a",
      "europe-west4-b",
      "europe-west4-c",
      "us-central1-a",
      "us-central1-b",
      "us-central1-c",
      "us-east1-b",
      "us-east1-d",
      "us-east4-a",
      "us-west1-a",
      "us-west1-b",
    ],
    spotOnly: false,
  },
  "A100-40": {
    memoryGiB: 40,
    computeCapability: 8.0,
    machineType: "a2-highgpu-1g",
    accelerator: undefined,
    quota: "NVIDIA_A100_GPUS",
    zones: [
      "asia-southeast1-b",
      "asia-southeast1-c",
      "europe-west4-a",
      "europe-west4-b",
      "us-central1-a",
      "us-central1-b",
      "us-central1-c",
      "us-central1-f",
      "us-east1-b",
      "us-west1-b",
      "us-west4-b",
    ],
    spotOnly: false,
  },
  "A100-80": {
    memoryGiB: 80,
    computeCapability: 8.0,
    machineType: "a2-ultragpu-1g",
    accelerator: undefined,
    quota: "NVIDIA_A100_80GB_GPUS",
    zones: ["asia-southeast1-c", "europe-west4-a", "us-central1-a", "us-central1-c", "us-east4-c", "us-east5-b"],
    spotOnly: false,
  },
  H100: {
    memoryGiB: 80,
    computeCapability: 9.0,
    machineType: "a3-highgpu-1g",
    accelerator: undefined,
    quota: "NVIDIA_H100_GPUS",
    zones: [
      "asia-southeast1-b",
      "asia-southeast1-c",
      "europe-west4-b",
      "europe-west4-c",
      "us-central1-a",
      "us-central1-b",
      "us-central1-c",
      "us-east4-a",
      "us-east4-b",
      "us-east4-c",
      "us-east5-a",
      "us-west1-a",
      "us-west1-b",
      "us-west4-a",
    ],
    spotOnly: true,
  },
} as const satisfies Readonly<Record<string, GpuType>>;

export type GpuTypeName = keyof typeof GPU_TYPES;

export const GPU_TYPE_NAMES: readonly [GpuTypeName, ...GpuTypeName[]] = ["T4", "L4", "A100-40", "A100-80", "H100"];

/** Kinds that Colab Enterprise offers, by the name that Vertex AI has for them (its enumeration AcceleratorType). */
export const COLAB_ACCELERATORS = {
  T4: "NVIDIA_TESLA_T4",
  L4: "NVIDIA_L4",
  "A100-40": "NVIDIA_TESLA_A100",
  "A100-80": "NVIDIA_A100_80GB",
} as const;

export const COLAB_GPU_NAMES = ["T4", "L4", "A100-40", "A100-80"] as const;

/** Compute capability from which on a GPU computes in bf16. */
export const BF16_CAPABILITY = 8.0;
