import { GPU_TYPES, type GpuTypeName } from "./gpu-types.ts";

/** A machine that is a node of a cluster. */
export interface NodeMachine {
  readonly machineType: string;
  readonly cpus: number;
  readonly memoryGiB: number;
}

/** A machine with so many GPUs of a kind. */
export interface GpuMachine extends NodeMachine {
  readonly gpus: number;
  /** Cannot be had at the standard price. */
  readonly spotOnly: boolean;
}

/** What Google calls a kind of GPU where a node pool asks for it, and what can be made of one. */
export interface GpuNodeFacts {
  readonly accelerator: string;
  readonly machines: readonly GpuMachine[];
  /** Sizes into which one GPU can be cut (MIG), and how many of each; none where it cannot. */
  readonly partitions: Readonly<Record<string, { readonly count: number; readonly memoryGiB: number }>>;
  /** Nodes of this kind can be placed near to each other. */
  readonly compact: boolean;
  /** Intel TDX: the machine's memory is encrypted, and what goes to the GPU too. */
  readonly confidential: boolean;
}

const machine = (machineType: string, gpus: number, cpus: number, memoryGiB: number, spotOnly = false): GpuMachine => ({
  machineType,
  gpus,
  cpus,
  memoryGiB,
  spotOnly,
});

// Machines: https://cloud.google.com/compute/docs/accelerator-optimized-machines, for T4
// https://cloud.google.com/compute/docs/gpus; partitions:
// https://cloud.google.com/kubernetes-engine/docs/how-to/gpus-multi; compact placement:
// https://cloud.google.com/kubernetes-engine/docs/how-to/compact-placement; confidential GPUs:
// https://cloud.google.com/kubernetes-engine/docs/how-to/gpus-confidential-nodes. Of these pages excerpts alone could be had,
// without their tables. What was compared on 2026-11-30, row by row, and with what:
// - cores and memory of each machine: https://github.com/skypilot-org/skypilot-catalog (catalogs/v8/gcp/vms.csv, commit
//   006059e), which has them from Google's API. No difference.
// - how many GPUs a g2 has: its price less that of its cores and memory. No difference; of the others the name tells it.
// - names of A100 and H100, and the parts of a GPU with how many there are: what GKE runs on a node to cut its GPUs,
//   https://github.com/GoogleCloudPlatform/container-engine-accelerators (partition_gpu/partition_gpu.go, commit 992db81).
//   4g.20gb and 4g.40gb were missing. A part's memory is what its name says.
// - compact placement (A100, L4 and H100; no N1) and confidential GPUs (one H100, a3-highgpu-1g, Intel TDX, on spot): the
//   excerpts. No difference.
// Not compared: that fewer than eight H100 come on spot alone, how many T4 an N1 takes, and which zones have confidential H100.
export const GPU_NODES = {
  T4: {
    accelerator: "nvidia-tesla-t4",
    machines: [
      machine("n1-standard-8", 1, 8, 30),
      machine("n1-standard-16", 2, 16, 60),
      machine("n1-standard-32", 4, 32, 120),
    ],
    partitions: {},
    compact: false,
    confidential: false,
  },
  L4: {
    accelerator: "nvidia-l4",
    machines: [
      machine("g2-standard-8", 1, 8, 32),
      machine("g2-standard-24", 2, 24, 96),
      machine("g2-standard-48", 4, 48, 192),
      machine("g2-standard-96", 8, 96, 384),
    ],
    partitions: {},
    compact: true,
    confidential: false,
  },
  "A100-40": {
    accelerator: "nvidia-tesla-a100",
    machines: [
      machine("a2-highgpu-1g", 1, 12, 85),
      machine("a2-highgpu-2g", 2, 24, 170),
      machine("a2-highgpu-4g", 4, 48, 340),
      machine("a2-highgpu-8g", 8, 96, 680),
    ],
    partitions: {
      "1g.5gb": { count: 7, memoryGiB: 5 },
      "2g.10gb": { count: 3, memoryGiB: 10 },
      "3g.20gb": { count: 2, memoryGiB: 20 },
      "4g.20gb": { count: 1, memoryGiB: 20 },
      "7g.40gb": { count: 1, memoryGiB: 40 },
    },
    compact: true,
    confidential: false,
  },
  "A100-80": {
    accelerator: "nvidia-a100-80gb",
    machines: [
      machine("a2-ultragpu-1g", 1, 12, 170),
      machine("a2-ultragpu-2g", 2, 24, 340),
      machine("a2-ultragpu-4g", 4, 48, 680),
      machine("a2-ultragpu-8g", 8, 96, 1360),
    ],
    partitions: {
      "1g.10gb": { count: 7, memoryGiB: 10 },
      "2g.20gb": { count: 3, memoryGiB: 20 },
      "3g.40gb": { count: 2, memoryGiB: 40 },
      "4g.40gb": { count: 1, memoryGiB: 40 },
      "7g.80gb": { count: 1, memoryGiB: 80 },
    },
    compact: true,
    confidential: false,
  },
  H100: {
    accelerator: "nvidia-h100-80gb",
    machines: [
      machine("a3-highgpu-1g", 1, 26, 234, true),
      machine("a3-highgpu-2g", 2, 52, 468, true),
      machine("a3-highgpu-4g", 4, 104, 936, true),
      machine("a3-highgpu-8g", 8, 208, 1872),
    ],
    partitions: {
      "1g.10gb": { count: 7, memoryGiB: 10 },
      "1g.20gb": { count: 4, memoryGiB: 20 },
      "2g.20gb": { count: 3, memoryGiB: 20 },
      "3g.40gb": { count: 2, memoryGiB: 40 },
      "4g.40gb": { count: 1, memoryGiB: 40 },
      "7g.80gb": { count: 1, memoryGiB: 80 },
    },
    compact: true,
    confidential: true,
  },
} as const satisfies Readonly<Record<GpuTypeName, GpuNodeFacts>>;

/** The facts of a kind, of the same type for every kind. */
export function gpuNodeFacts(gpu: GpuTypeName): GpuNodeFacts {
  return GPU_NODES[gpu];
}

/** The machine with so many GPUs of a kind; undefined where Google has none. */
export function gpuMachine(gpu: GpuTypeName, gpus: number): GpuMachine | undefined {
  return gpuNodeFacts(gpu).machines.find((one) => one.gpus === gpus);
}

/**
 * GiB of memory for each core: https://cloud.google.com/compute/docs/general-purpose-machines. Of e2-standard, e2-highmem and
 * n2-highcpu compared on 2026-11-30 with the catalogue named above, without a difference; the others were not.
 */
const MEMORY_PER_CPU = { standard: 4, highmem: 8, highcpu: 1 } as const;

/** Families of machines without GPUs, and how many cores they come with. */
const FAMILIES: Readonly<Record<string, readonly number[]>> = {
  e2: [2, 4, 8, 16, 32],
  n2: [2, 4, 8, 16, 32, 48, 64, 80],
  n2d: [2, 4, 8, 16, 32, 48, 64, 80, 96],
};

/** A machine without a GPU by its name. Example: `e2-standard-8`. Undefined where it is none that is known here. */
export function cpuMachine(machineType: string): NodeMachine | undefined {
  const [, family = "", shape = "", cores = ""] =
    /^([a-z]\w+)-(standard|highmem|highcpu)-(\d+)$/.exec(machineType) ?? [];
  const cpus = Number(cores);
  // The catalogue named above has no e2-highmem of more than 16 cores.
  if (FAMILIES[family]?.includes(cpus) !== true || (family === "e2" && shape === "highmem" && cpus > 16))
    return undefined;
  return { machineType, cpus, memoryGiB: cpus * MEMORY_PER_CPU[shape as keyof typeof MEMORY_PER_CPU] };
}

/**
 * Machines of the families above whose memory AMD's SEV can encrypt:
 * https://cloud.google.com/kubernetes-engine/docs/how-to/vtpms (read 2026-11-30), which names n2d and c2d.
 */
export function canBeConfidential(machineType: string): boolean {
  return machineType.startsWith("n2d-");
}

const GIB = 2 ** 30;
const MIB = 2 ** 20;

/** Memory and cores of a node that pods may have. */
export interface Room {
  readonly cpus: number;
  readonly memoryBytes: number;
}

/** What GKE's own pods and the drivers of volumes ask for on each node, rounded up. */
const SYSTEM_PODS: Room = { cpus: 1, memoryBytes: 2 * GIB };

/**
 * What GKE leaves to pods: it keeps a share of memory and cores for kubelet and system, smaller the larger the machine is,
 * and 100 MiB below which it puts pods out. https://cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes
 * The shares of memory were compared on 2026-11-30 with https://github.com/hatemosphere/gke-node-allocatable-memory-calculator
 * (commit 1a166dd), those of cores with nothing. What image streaming keeps beside them is not counted: Google's page on it
 * could not be had.
 */
export function roomOn({ cpus, memoryGiB }: NodeMachine): Room {
  const kept = shareOf(memoryGiB, [
    [4, 0.25],
    [8, 0.2],
    [16, 0.1],
    [128, 0.06],
    [Number.POSITIVE_INFINITY, 0.02],
  ]);
  const keptCpus = shareOf(cpus, [
    [1, 0.06],
    [2, 0.01],
    [4, 0.005],
    [Number.POSITIVE_INFINITY, 0.0025],
  ]);
  const bytes = (memoryGiB - kept) * GIB - 100 * MIB - SYSTEM_PODS.memoryBytes;
  return { cpus: Math.floor(cpus - keptCpus - SYSTEM_PODS.cpus), memoryBytes: Math.floor(bytes / GIB) * GIB };
}

/** The sum of shares, each of the part of an amount up to its bound. */
function shareOf(amount: number, steps: readonly (readonly [number, number])[]): number {
  let below = 0;
  let sum = 0;
  for (const [bound, share] of steps) {
    sum += Math.max(0, Math.min(amount, bound) - below) * share;
    below = bound;
  }
  return sum;
}

/** Zones of a cluster that are known to have a kind of GPU. */
export function zonesWith(gpu: GpuTypeName, zones: readonly string[]): readonly string[] {
  const known: readonly string[] = GPU_TYPES[gpu].zones;
  return zones.filter((zone) => known.includes(zone));
}
