import type { ClusterLayout } from "../../../k8s/layout.ts";
import { makePlan } from "../../../stacks/plan/plan.ts";
import { hasTarget, ofTarget, type StackInputs } from "../../../stacks/settings/load.ts";
import { gkeLayout } from "../../../stacks/targets/gke/layout.ts";
import { clusterNames } from "../../../stacks/targets/gke/names.ts";
import { clusterLayout } from "../../../stacks/targets/kubernetes/layout.ts";

/** The cluster of a stack whose target is one. */
export function layoutOf(inputs: StackInputs): ClusterLayout {
  if (hasTarget(inputs, "gke")) return gkeLayout(inputs, makePlan(inputs), clusterNames(inputs));
  return clusterLayout(ofTarget(inputs, "kubernetes"));
}
