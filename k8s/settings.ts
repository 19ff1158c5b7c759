import type { ClusterSettings } from "../stacks/settings/cluster.ts";
import type { ClusterLayout } from "./layout.ts";

type Common = "stack" | "namespace" | "runAs" | "run" | "cohort" | "preemption" | "metricsFrom";

/**
 * The part of a layout that the settings of every target tell alike.
 * @param memoryBytes what `training.memory` sets, which stands above the cluster's own.
 */
export function commonLayout(
  stack: string,
  settings: ClusterSettings,
  memoryBytes: number | undefined,
): Pick<ClusterLayout, Common> {
  const { runAs, run, queue, metricsFrom } = settings;
  return {
    stack,
    namespace: namespaceOf(stack, settings),
    runAs,
    run: {
      nodes: run.nodes,
      gpus: run.gpus,
      cpus: run.cpus,
      memoryBytes: memoryBytes ?? run.memory,
      priority: run.priority,
    },
    cohort: queue.cohort,
    preemption: queue.preemption,
    metricsFrom,
  };
}

export function namespaceOf(stack: string, { namespace }: Pick<ClusterSettings, "namespace">): string {
  return namespace ?? `tunestack-${stack}`;
}
