import type { RunPlan } from "../stacks/plan/types.ts";
import type { ClusterLayout, Resolver } from "./layout.ts";
import { inNamespace, labelsOf, runObjectName } from "./names.ts";
import type { Rendered, TrainingRuntimeObject, TrainJobObject } from "./objects.ts";
import { queuedMetadata, renderJobSetSpec, runLabels, runSpecification } from "./render-run.ts";

const API = "trainer.kubeflow.org/v1alpha1";
/** By this label and this name of the container Kubeflow Trainer knows the part that trains. */
const TRAINER_STEP = { "trainer.kubeflow.org/trainjob-ancestor-step": "trainer" } as const;
const TRAINER_CONTAINER = "node";

/**
 * The run as a TrainJob, which Kueue holds back until there is room, and the runtime that Kubeflow Trainer makes its JobSet
 * from: the JobSet of `runAs: jobset`, its pods reached under the same names.
 */
export function renderTrainJob(plan: RunPlan, layout: ClusterLayout, resolve: Resolver): readonly Rendered[] {
  return [
    { logicalName: "run-runtime", object: renderRuntime(plan, layout, resolve) },
    { logicalName: "run", object: renderJob(plan, layout) },
  ];
}

/** Named by what the run was asked to do, so that a TrainJob of something else is another one for Pulumi as well. */
function runtimeName(plan: RunPlan, layout: ClusterLayout): string {
  return `${runObjectName(plan.run)}-${runSpecification(plan, layout).slice(0, 8)}`;
}

function renderRuntime(plan: RunPlan, layout: ClusterLayout, resolve: Resolver): TrainingRuntimeObject {
  return {
    apiVersion: API,
    kind: "TrainingRuntime",
    metadata: inNamespace(layout, runtimeName(plan, layout), plan.workload.name),
    spec: {
      // Neither `torch` nor `mpi`: the command starts torchrun by itself, as it does in a JobSet.
      mlPolicy: { numNodes: layout.run.nodes },
      template: {
        metadata: { labels: { ...labelsOf(layout, plan.workload.name), ...runLabels(plan, layout) } },
        spec: renderJobSetSpec(plan, layout, resolve, { container: TRAINER_CONTAINER, jobLabels: TRAINER_STEP }),
      },
    },
  };
}

function renderJob(plan: RunPlan, layout: ClusterLayout): TrainJobObject {
  return {
    apiVersion: API,
    kind: "TrainJob",
    metadata: queuedMetadata(plan, layout),
    spec: {
      runtimeRef: {
        apiGroup: "trainer.kubeflow.org",
        kind: "TrainingRuntime",
        name: runtimeName(plan, layout),
      },
    },
  };
}
