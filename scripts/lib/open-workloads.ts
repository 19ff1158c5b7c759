import type { StackOutputs } from "../../stacks/outputs.ts";
import { Containers } from "./containers.ts";
import { awaitPlan } from "./gcloud/vm.ts";
import { openVm } from "./gcloud/vm-workloads.ts";
import { step } from "./steps.ts";
import type { Workloads } from "./workloads.ts";

/**
 * The containers of a stack that is up, whatever its target. What is opened on the way (a tunnel) is closed when the
 * command ends.
 * @throws UserError where there is no way to them, with the command that mends it.
 */
export async function openWorkloads(outputs: StackOutputs): Promise<Workloads> {
  switch (outputs.target) {
    case "docker":
      return new Containers(outputs);
    case "gcp-vm":
      return await openVm(outputs);
    case "kubernetes":
    case "gke": {
      // The client of Kubernetes takes a second to load.
      const { openCluster } = await import("./cluster/open.ts");
      return await openCluster(outputs);
    }
  }
}

/** Waits, after a `pulumi up`, until what was declared is on its machines; an engine and a cluster have it by then. */
export async function settle(outputs: StackOutputs): Promise<void> {
  switch (outputs.target) {
    case "docker":
    case "kubernetes":
    case "gke":
      return;
    case "gcp-vm":
      await step("VM", async (report) => ({ said: await awaitPlan(outputs, report), value: undefined }));
  }
}
