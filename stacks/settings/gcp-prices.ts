import { GPU_TYPES } from "./gpu-types.ts";

/** What something costs by the hour, in US dollars, on spot and at the standard price. */
export interface HourlyPrice {
  readonly spot: number;
  readonly standard: number;
}

/**
 * Where the prices are from: Google's Cloud Billing catalogue, as the project names here read it on that day. Without
 * taxes and discounts; spot prices change from month to month.
 */
export const PRICE_SOURCE = {
  document: "https://github.com/Cyclenerd/google-cloud-pricing-cost-calculator (pricing.yml, commit fd66b26)",
  date: "2026-07-30",
} as const;

type Regions = Readonly<Partial<Record<string, HourlyPrice>>>;

/** Machines, with the GPU that comes with them and the local SSD that Google adds to A2 Ultra and A3. */
const MACHINES: Readonly<Partial<Record<string, Regions>>> = {
  "e2-standard-8": {
    "us-central1": { standard: 0.268, spot: 0.1608 },
    "us-east1": { standard: 0.268, spot: 0.1608 },
    "us-east4": { standard: 0.3019, spot: 0.1655 },
    "us-east5": { standard: 0.268, spot: 0.093 },
    "us-west1": { standard: 0.268, spot: 0.1608 },
    "us-west4": { standard: 0.3019, spot: 0.0364 },
    "europe-west4": { standard: 0.2951, spot: 0.1411 },
    "asia-southeast1": { standard: 0.3307, spot: 0.1727 },
  },
  "n2-standard-8": {
    "us-central1": { standard: 0.3885, spot: 0.1842 },
    "us-east1": { standard: 0.3885, spot: 0.1842 },
    "us-east4": { standard: 0.4375, spot: 0.1001 },
    "us-east5": { standard: 0.3885, spot: 0.1838 },
    "us-west1": { standard: 0.3885, spot: 0.1842 },
    "us-west4": { standard: 0.4375, spot: 0.2244 },
    "europe-west4": { standard: 0.4277, spot: 0.1555 },
    "asia-southeast1": { standard: 0.4792, spot: 0.1866 },
  },
  "n2d-standard-8": {
    "us-central1": { standard: 0.338, spot: 0.0978 },
    "us-east1": { standard: 0.338, spot: 0.0978 },
    "us-east4": { standard: 0.3806, spot: 0.194 },
    "us-east5": { standard: 0.338, spot: 0.0788 },
    "us-west1": { standard: 0.338, spot: 0.0978 },
    "us-west4": { standard: 0.3806, spot: 0.0901 },
    "europe-west4": { standard: 0.3721, spot: 0.1302 },
    "asia-southeast1": { standard: 0.4169, spot: 0.0855 },
  },
  "g2-standard-24": {
    "us-central1": { standard: 2.0008, spot: 1.1248 },
    "us-east1": { standard: 2.0008, spot: 1.1248 },
    "us-east4": { standard: 1.9943, spot: 0.8792 },
    "us-west1": { standard: 2.0008, spot: 1.1248 },
    "europe-west4": { standard: 2.103, spot: 1.1036 },
    "asia-southeast1": { standard: 2.4684, spot: 1.4812 },
  },
  "n1-standard-8": {
    "us-central1": { standard: 0.38, spot: 0.134 },
    "us-east1": { standard: 0.38, spot: 0.134 },
    "us-east4": { standard: 0.428, spot: 0.1095 },
    "us-west1": { standard: 0.38, spot: 0.134 },
    "us-west4": { standard: 0.428, spot: 0.1215 },
    "europe-west4": { standard: 0.4183, spot: 0.2431 },
    "asia-southeast1": { standard: 0.4688, spot: 0.0939 },
  },
  "g2-standard-8": {
    "us-central1": { standard: 0.8536, spot: 0.4799 },
    "us-east1": { standard: 0.8536, spot: 0.4799 },
    "us-east4": { standard: 0.8508, spot: 0.3751 },
    "us-west1": { standard: 0.8536, spot: 0.4799 },
    "europe-west4": { standard: 0.8972, spot: 0.4708 },
    "asia-southeast1": { standard: 1.0531, spot: 0.6319 },
  },
  "a2-highgpu-1g": {
    "us-central1": { standard: 3.6734, spot: 1.928 },
    "us-east1": { standard: 3.6734, spot: 1.928 },
    "us-west1": { standard: 3.6734, spot: 1.928 },
    "us-west4": { standard: 3.9344, spot: 1.8168 },
    "europe-west4": { standard: 3.748, spot: 1.6928 },
    "asia-southeast1": { standard: 4.0138, spot: 2.4083 },
  },
  "a2-ultragpu-1g": {
    "us-central1": { standard: 5.0688, spot: 2.7595 },
    "us-east4": { standard: 5.7077, spot: 2.3673 },
    "us-east5": { standard: 5.5649, spot: 1.7778 },
    "europe-west4": { standard: 5.5809, spot: 2.9452 },
    "asia-southeast1": { standard: 6.2477, spot: 3.2487 },
  },
  "a3-highgpu-1g": {
    "us-central1": { standard: 11.0612, spot: 6.3262 },
    "us-east4": { standard: 11.0695, spot: 4.5401 },
    "us-east5": { standard: 12.4479, spot: 4.6598 },
    "us-west1": { standard: 11.0612, spot: 6.3262 },
    "us-west4": { standard: 12.4561, spot: 4.6595 },
    "europe-west4": { standard: 14.0676, spot: 5.5148 },
    "asia-southeast1": { standard: 14.2848, spot: 6.4023 },
  },
};

/** Machines whose price the document has as so many times that of another, in every region. */
const TIMES: Readonly<Record<string, readonly [string, number]>> = {
  ...sizesOf("e2-standard-", "e2-standard-8", [2, 4, 16, 32], 8),
  ...sizesOf("n2-standard-", "n2-standard-8", [2, 4, 16, 32, 48, 64, 80], 8),
  ...sizesOf("n2d-standard-", "n2d-standard-8", [2, 4, 16, 32, 48, 64, 80, 96], 8),
  ...sizesOf("g2-standard-", "g2-standard-24", [48, 96], 24),
  "a2-highgpu-2g": ["a2-highgpu-1g", 2],
  "a2-highgpu-4g": ["a2-highgpu-1g", 4],
  "a2-highgpu-8g": ["a2-highgpu-1g", 8],
  "a2-ultragpu-2g": ["a2-ultragpu-1g", 2],
  "a2-ultragpu-4g": ["a2-ultragpu-1g", 4],
  "a2-ultragpu-8g": ["a2-ultragpu-1g", 8],
  "a3-highgpu-2g": ["a3-highgpu-1g", 2],
  "a3-highgpu-4g": ["a3-highgpu-1g", 4],
  "a3-highgpu-8g": ["a3-highgpu-1g", 8],
};

function sizesOf(
  prefix: string,
  base: string,
  cores: readonly number[],
  baseCores: number,
): Readonly<Record<string, readonly [string, number]>> {
  return Object.fromEntries(cores.map((count) => [`${prefix}${count}`, [base, count / baseCores] as const]));
}

/**
 * One GPU that is attached to a machine, beside the machine's own price: https://github.com/skypilot-org/skypilot-catalog
 * (catalogs/v8/gcp/vms.csv, commit 006059e, read 2026-11-29), which has it from the same catalogue of Google's.
 */
const ATTACHED: Readonly<Partial<Record<string, Regions>>> = {
  "nvidia-tesla-t4": {
    "us-central1": { standard: 0.35, spot: 0.175 },
    "us-east1": { standard: 0.35, spot: 0.175 },
    "us-east4": { standard: 0.37, spot: 0.1644 },
    "us-west1": { standard: 0.35, spot: 0.175 },
    "us-west4": { standard: 0.37, spot: 0.1258 },
    "europe-west4": { standard: 0.3675, spot: 0.175 },
    "asia-southeast1": { standard: 0.37, spot: 0.1645 },
  },
};

/** Balanced persistent disks, a GiB for a month. */
const DISK_GIB_MONTH: Readonly<Partial<Record<string, number>>> = {
  "us-central1": 0.1,
  "us-east1": 0.1,
  "us-east4": 0.11,
  "us-east5": 0.1,
  "us-west1": 0.1,
  "us-west4": 0.11,
  "europe-west4": 0.11,
  "asia-southeast1": 0.11,
};

/** Google counts 730 hours to a month. */
const HOURS_A_MONTH = 730;

/** What Google takes for each cluster: https://cloud.google.com/kubernetes-engine/pricing. */
export const CLUSTER_FEE = 0.1;

/** A gateway that serves one VM: the document's price is that of 32 VMs and more, 0.0448. */
export const NAT_GATEWAY: number = 0.0448 / 32;

/**
 * A machine with its GPU, by the hour.
 * @param accelerator Google's name of a GPU that is attached; undefined where the machine type brings it, or has none.
 * @returns undefined where the price of either is not known.
 */
export function machinePrice(
  machineType: string,
  region: string,
  accelerator: string | undefined,
): HourlyPrice | undefined {
  const [base, times] = TIMES[machineType] ?? [machineType, 1];
  const machine = MACHINES[base]?.[region];
  const gpu = accelerator === undefined ? { spot: 0, standard: 0 } : ATTACHED[accelerator]?.[region];
  if (machine === undefined || gpu === undefined) return undefined;
  return { spot: machine.spot * times + gpu.spot, standard: machine.standard * times + gpu.standard };
}

/** A balanced persistent disk by the hour; undefined where the price is not known. */
export function diskPrice(gibibytes: number, region: string): number | undefined {
  const month = DISK_GIB_MONTH[region];
  return month === undefined ? undefined : (gibibytes * month) / HOURS_A_MONTH;
}

/** The GPU that comes attached to a machine type of the table; undefined where it is part of the machine. */
export function attachedTo(machineType: string): string | undefined {
  return Object.values(GPU_TYPES).find((gpu) => gpu.machineType === machineType)?.accelerator;
}

/** Whether a GPU is attached to a machine, and paid for beside it; the others come with their machines. */
export function isAttached(accelerator: string): boolean {
  return Object.values(GPU_TYPES).some((gpu) => gpu.accelerator === accelerator);
}

/** Region of a zone; a region is its own. */
export function regionOf(location: string): string {
  return /^[a-z]+-[a-z]+\d+/.exec(location)?.[0] ?? location;
}
