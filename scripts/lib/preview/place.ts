import { machinePrice } from "../../../stacks/settings/gcp-prices.ts";
import type { NodeGpuName } from "../../../stacks/settings/gpu-nodes.ts";
import { GPU_TYPES } from "../../../stacks/settings/gpu-types.ts";
import type { Settings } from "../../../stacks/settings/schema.ts";

/** Where a stack's runs and experiments run, and what an hour there costs. */
export interface Place {
  /** For people. Example: `one L4 in us-central1, on spot`. */
  readonly words: string;
  /** The GPU to estimate for; `here` for the one of this machine, undefined where there is none. */
  readonly gpu: NodeGpuName | "here" | undefined;
  /** In US dollars; undefined where nothing is rented, or the price is not known. */
  readonly perHour: number | undefined;
  readonly rented: boolean;
}

/** The place of a stack: the kind of GPU that it prefers. */
export function placeOf(settings: Settings): Place {
  switch (settings.target) {
    case "docker":
      return { words: "the engine's machine", gpu: "here", perHour: undefined, rented: false };
    case "gcp-vm": {
      const { gpus, region, provisioning } = settings.gcp;
      const [gpu = "L4"] = gpus;
      const { machineType, accelerator } = GPU_TYPES[gpu];
      const perHour = machinePrice(machineType, region, accelerator)?.[provisioning];
      return { words: `one ${gpu} in ${region}, ${onWhat(provisioning)}`, gpu, perHour, rented: true };
    }
    case "kubernetes": {
      const [pool] = settings.kubernetes.queue.pools;
      const gpu = pool === undefined || pool.gpu === "none" ? undefined : pool.gpu;
      return {
        words: gpu === undefined ? "nodes without a GPU" : `one ${gpu}`,
        gpu,
        perHour: undefined,
        rented: false,
      };
    }
  }
}

function onWhat(provisioning: "spot" | "standard"): string {
  return provisioning === "spot" ? "on spot" : "at the standard price";
}
