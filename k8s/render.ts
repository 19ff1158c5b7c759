import { stringify } from "yaml";
import type { Plan, RunPlan } from "../stacks/plan/types.ts";
import type { ClusterLayout, Resolver } from "./layout.ts";
import type { KubernetesObject, Rendered } from "./objects.ts";
import { renderSubmitter } from "./render-experiments.ts";
import { renderNamespace, renderPriorityClasses, renderSecret, renderServiceAccount } from "./render-foundation.ts";
import { renderInputs } from "./render-inputs.ts";
import { renderNetworkPolicies } from "./render-network.ts";
import { renderQueue } from "./render-queue.ts";
import { renderJobSet } from "./render-run.ts";
import { NONE_TAKEN, renderBudget, renderService } from "./render-services.ts";
import { renderTrainJob } from "./render-train-job.ts";
import { renderVolumes } from "./render-volumes.ts";

/** The plan as objects, in an order in which each comes after those that it names. */
export function renderStack(plan: Plan, layout: ClusterLayout, resolve: Resolver): readonly Rendered[] {
  const workloads = [...plan.services, ...(plan.run === undefined ? [] : [plan.run.workload])];
  return [
    { logicalName: "namespace", object: renderNamespace(layout) },
    ...renderPriorityClasses(layout),
    ...workloads.map(({ name }) => ({
      logicalName: `${name}-account`,
      object: renderServiceAccount(layout, name),
    })),
    { logicalName: "secret", object: renderSecret(plan, layout, resolve) },
    ...renderInputs(plan, layout, resolve),
    ...renderVolumes(plan, layout),
    ...renderNetworkPolicies(plan, layout),
    ...renderQueue(layout),
    ...plan.services.flatMap((workload) =>
      workload.submits === undefined
        ? renderService(workload, layout, resolve)
        : renderSubmitter(workload, workload.submits, layout, resolve),
    ),
    ...renderRun(plan, layout, resolve),
  ];
}

/** A run in progress is not moved for a node's sake: whoever drains the node waits for it, or stops it. */
function renderRun({ run }: Plan, layout: ClusterLayout, resolve: Resolver): readonly Rendered[] {
  if (run === undefined) return [];
  const budget = renderBudget(layout, run.workload.name, NONE_TAKEN);
  return [{ logicalName: "run-disruption-budget", object: budget }, ...renderRunAs(run, layout, resolve)];
}

/** The run by itself, as what the cluster's setting `runAs` says. */
export function renderRunAs(run: RunPlan, layout: ClusterLayout, resolve: Resolver): readonly Rendered[] {
  switch (layout.runAs) {
    case "jobset":
      return [{ logicalName: "run", object: renderJobSet(run, layout, resolve) }];
    case "trainjob":
      return renderTrainJob(run, layout, resolve);
  }
}

/** The plan as plain objects, for whoever applies them without Pulumi. */
export function renderObjects(plan: Plan, layout: ClusterLayout, resolve: Resolver): readonly KubernetesObject[] {
  return renderStack(plan, layout, resolve).map(({ object }) => object);
}

/** Objects as one YAML file. */
export function objectsText(objects: readonly KubernetesObject[]): string {
  return objects.map((object) => stringify(object, { lineWidth: 0, aliasDuplicateObjects: false })).join("---\n");
}
