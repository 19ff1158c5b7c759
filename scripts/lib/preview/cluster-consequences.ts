import { LABELS } from "../../../k8s/names.ts";
import type { PreviewedResource } from "../../../policy/types.ts";
import { isTree } from "../../../policy/values.ts";
import { type Consequence, endOfRun, safe } from "./levels.ts";
import type { Live } from "./live.ts";

/** What a change of an object in a cluster means for what runs there; undefined for what is none, or not known. */
export function ofClusterObject(change: PreviewedResource, live: Live): Consequence | undefined {
  const [, kind] = /^kubernetes:[^:]+:(\w+)$/.exec(change.type) ?? [];
  switch (kind) {
    case "JobSet":
    case "TrainJob":
      return ofRun(change, live);
    case "Deployment":
    case "DaemonSet":
      return ofService(change);
    case "CronJob":
      return safe(change.operation === "create" ? "starts at its times" : "holds from its next time on");
    case "PodDisruptionBudget":
    case "PriorityClass":
    case "WorkloadPriorityClass":
      return safe("holds for what is scheduled from now on");
    case "ResourceFlavor":
    case "ClusterQueue":
    case "LocalQueue":
      return change.operation === "create" || change.operation === "update"
        ? safe("holds for what is queued; a run that was let in stays in")
        : { level: "interrupts", text: "nothing more is let in meanwhile; a run that was let in stays in" };
    case "Namespace":
      return ofNamespace(change);
    case "NetworkPolicy":
    case "Service":
      return change.operation === "create"
        ? safe("something new; nothing that runs uses it yet")
        : { level: "interrupts", text: "connections may break off; what runs goes on" };
    case "Secret":
    case "ConfigMap":
      return safe("taken by what starts from now on");
    default:
      return undefined;
  }
}

function ofRun(change: PreviewedResource, live: Live): Consequence {
  const run = labelOf(change.before ?? change.inputs, LABELS.run) ?? change.name;
  switch (change.operation) {
    case "create":
      return safe(`queues run ${run}`);
    case "update":
    case "same":
      return safe(`changes run ${run} while it runs`);
    case "delete":
      return endOfRun(run, live, "removes the job of");
    case "replace": {
      const next = labelOf(change.inputs, LABELS.run) ?? run;
      return endOfRun(run, live, next === run ? "makes a new job for" : `queues run ${next} in the place of`);
    }
  }
}

function ofService(change: PreviewedResource): Consequence {
  const service = labelOf(change.before ?? change.inputs, LABELS.name) ?? change.name;
  switch (change.operation) {
    case "create":
      return safe(`starts service ${service}`);
    case "update":
    case "replace":
      return { level: "interrupts", text: `restarts service ${service}` };
    case "delete":
      return { level: "interrupts", text: `stops service ${service}` };
    case "same":
      return safe("nothing changes");
  }
}

function ofNamespace({ operation, retainOnDelete }: PreviewedResource): Consequence {
  if (operation === "create" || operation === "update" || operation === "same") return safe("what is in it stays");
  if (retainOnDelete) return { level: "interrupts", text: "the old namespace is kept, outside the stack" };
  return { level: "kills", text: "everything in it is lost, its volumes too" };
}

function labelOf(inputs: Readonly<Record<string, unknown>>, label: string): string | undefined {
  const metadata = isTree(inputs.metadata) ? inputs.metadata : {};
  const labels = isTree(metadata.labels) ? metadata.labels : {};
  const value = labels[label];
  return typeof value === "string" ? value : undefined;
}
