import type { ClusterLayout } from "../../k8s/layout.ts";
import { makePlan } from "../../stacks/plan/plan.ts";
import type { Plan } from "../../stacks/plan/types.ts";
import type { GkeSettings } from "../../stacks/settings/gke.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { type CloudAccount, cloudAccounts } from "../../stacks/targets/gke/accounts.ts";
import { gkeLayout } from "../../stacks/targets/gke/layout.ts";
import { type ClusterNames, clusterNames } from "../../stacks/targets/gke/names.ts";
import { gkeInputs, type InputChanges } from "./inputs.ts";

export interface GkeChanges extends InputChanges {
  /** The block `gke`, over the least that it needs. */
  readonly gke?: RawSettings;
}

/** A cluster in Google Cloud as its component gets it. */
export function describeGke(changes: GkeChanges = {}): {
  readonly names: ClusterNames;
  readonly settings: GkeSettings;
  readonly plan: Plan;
  readonly layout: ClusterLayout;
  readonly accounts: readonly CloudAccount[];
} {
  const inputs = gkeInputs({ secrets: ["jupyter-token", "restic-password"], ...changes });
  const names = clusterNames(inputs);
  const plan = makePlan(inputs);
  const settings = inputs.settings.gke;
  return {
    names,
    settings,
    plan,
    layout: gkeLayout(inputs, plan, names),
    accounts: cloudAccounts(plan, settings, names),
  };
}
