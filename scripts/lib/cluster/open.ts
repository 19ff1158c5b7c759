import type { ClusterOutputs } from "../../../stacks/outputs.ts";
import type { Workloads } from "../workloads.ts";
import { openClient } from "./client.ts";
import { ClusterWorkloads } from "./workloads.ts";

/**
 * The containers of a stack in its cluster.
 * @throws UserError where the cluster cannot be asked, with what mends it.
 */
export async function openCluster(outputs: ClusterOutputs): Promise<Workloads> {
  return new ClusterWorkloads(await openClient(outputs), outputs.run);
}
