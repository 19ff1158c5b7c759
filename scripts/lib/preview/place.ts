import { attachedTo, machinePrice } from "../../../stacks/settings/gcp-prices.ts";
import { gpuMachine } from "../../../stacks/settings/gke-machines.ts";
import type { NodeGpuName } from "../../../stacks/settings/gpu-nodes.ts";
import { GPU_TYPES } from "../../../stacks/settings/gpu-types.ts";
import type { Settings, SettingsOf } from "../../../stacks/settings/schema.ts";

/** Where a stack's runs and experiments run, and what an hour there costs. */
export interface Place {
  /** For people. Example: `one L4 in us-central1, on spot`. */
  readonly words: string;
  /** The GPU to estimate for; `here` for the one of this machine, undefined where there is none. */
  readonly gpu: NodeGpuName | "here" | undefined;
  /** GPUs of one run, over all of its nodes. */
  readonly gpus: number;
  /** In US dollars, for all that one run takes; undefined where nothing is rented, or the price is not known. */
  readonly perHour: number | undefined;
  readonly rented: boolean;
}

/** The place of a stack: the kind of GPU that it prefers. */
export function placeOf(settings: Settings): Place {
  switch (settings.target) {
    case "docker":
      return { words: "the engine's machine", gpu: "here", gpus: 1, perHour: undefined, rented: false };
    case "gcp-vm": {
      const { gpus, region, provisioning } = settings.gcp;
      const [gpu = "L4"] = gpus;
      const { machineType, accelerator } = GPU_TYPES[gpu];
      const perHour = machinePrice(machineType, region, accelerator)?.[provisioning];
      return { words: `one ${gpu} in ${region}, ${onWhat(provisioning)}`, gpu, gpus: 1, perHour, rented: true };
    }
    case "kubernetes": {
      const { queue, run } = settings.kubernetes;
      const [pool] = queue.pools;
      const gpu = pool === undefined || pool.gpu === "none" ? undefined : pool.gpu;
      const gpus = run.nodes * run.gpus;
      return { words: nodesText(run.nodes, run.gpus, gpu), gpu, gpus, perHour: undefined, rented: false };
    }
    case "gke":
      return placeInGke(settings.gke);
  }
}

function placeInGke({ queue, run, region }: SettingsOf<"gke">["gke"]): Place {
  const [pool] = queue.pools;
  if (pool === undefined || pool.gpu === "none")
    return { words: nodesText(run.nodes, 0, undefined), gpu: undefined, gpus: 0, perHour: undefined, rented: true };
  const { gpu, gpusPerNode, provisioning } = pool;
  const machineType = gpuMachine(gpu, gpusPerNode)?.machineType ?? "";
  const node = machinePrice(machineType, region, attachedTo(machineType))?.[provisioning];
  return {
    words: `${nodesText(run.nodes, run.gpus, gpu)} in ${region}, ${onWhat(provisioning)}`,
    gpu,
    gpus: run.nodes * run.gpus,
    perHour: node === undefined ? undefined : node * run.nodes,
    rented: true,
  };
}

function nodesText(nodes: number, gpus: number, gpu: NodeGpuName | undefined): string {
  const machines = nodes === 1 ? "a node" : `${nodes} nodes`;
  if (gpu === undefined) return `${machines} without a GPU`;
  return `${machines} with ${gpus} ${gpu}${nodes === 1 ? "" : " each"}`;
}

function onWhat(provisioning: "spot" | "standard"): string {
  return provisioning === "spot" ? "on spot" : "at the standard price";
}
