import type { ScheduledJob, Workload } from "../stacks/plan/types.ts";
import { cronSchedule } from "./cron.ts";
import type { ClusterLayout, Resolver } from "./layout.ts";
import { inNamespace, LABELS, labelsOf } from "./names.ts";
import type {
  CronJobObject,
  DaemonSetObject,
  DeploymentObject,
  DisruptionBudgetObject,
  Rendered,
  ServiceObject,
} from "./objects.ts";
import { priorityClassName } from "./render-foundation.ts";
import { GPU_VARIABLE, type PodNeeds, renderPod, type Variable } from "./render-pod.ts";

/** A service takes little while nobody uses it, and may use what is free. */
const CPU = { request: "100m", limit: "4" };
const MEMORY_WHERE_NONE_IS_SET = 2 * 2 ** 30;
const EPHEMERAL_STORAGE = "1Gi";
/** Ended jobs are kept that long, so that their logs can be read. */
const KEPT_JOBS = { successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 3 };

/** A service of a stack: always there, on every node with a GPU, or started by the clock. */
export function renderService(workload: Workload, layout: ClusterLayout, resolve: Resolver): readonly Rendered[] {
  if (workload.scheduled !== undefined)
    return workload.scheduled.map((job) => ({
      logicalName: `${workload.name}-${job.name}`,
      object: renderCronJob(workload, job, layout, resolve),
    }));
  const { name } = workload;
  const runner =
    workload.gpu === "monitor"
      ? renderDaemonSet(workload, layout, resolve)
      : renderDeployment(workload, layout, resolve);
  return [
    { logicalName: name, object: runner },
    ...(workload.ports.length === 0
      ? []
      : [{ logicalName: `${name}-service`, object: renderServiceObject(workload, layout) }]),
    ...(runner.kind === "Deployment"
      ? [{ logicalName: `${name}-disruption-budget`, object: renderBudget(layout, name, { maxUnavailable: 1 }) }]
      : []),
  ];
}

/** What every service's pod asks for. */
export function serviceNeeds(workload: Workload, layout: ClusterLayout): PodNeeds {
  return {
    cpu: CPU,
    memoryBytes: workload.memoryBytes ?? MEMORY_WHERE_NONE_IS_SET,
    gpus: 0,
    priorityClass: priorityClassName(layout, "services"),
    serviceAccount: workload.name,
    restartPolicy: "Always",
    graceSeconds: workload.stopGraceSeconds,
    liveness: true,
    probes: true,
    ephemeralStorage: EPHEMERAL_STORAGE,
  };
}

export function renderDeployment(
  workload: Workload,
  layout: ClusterLayout,
  resolve: Resolver,
  needs = serviceNeeds(workload, layout),
): DeploymentObject {
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: inNamespace(layout, workload.name),
    spec: {
      replicas: 1,
      // Two of a service would write the same files, and a disk that one pod holds can be on no other node.
      strategy: { type: "Recreate" },
      revisionHistoryLimit: 3,
      selector: { matchLabels: labelsOf(layout, workload.name) },
      template: renderPod(workload, layout, resolve, needs),
    },
  };
}

/** On the nodes that runs go to and on no other, each with a folder of its own in the logs. */
function renderDaemonSet(workload: Workload, layout: ClusterLayout, resolve: Resolver): DaemonSetObject {
  const environment: Variable[] = [
    { name: GPU_VARIABLE, value: "all" },
    { name: NODE_VARIABLE, valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
  ];
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: inNamespace(layout, workload.name),
    spec: {
      revisionHistoryLimit: 3,
      selector: { matchLabels: labelsOf(layout, workload.name) },
      // Nobody waits for a sample: all of them at once.
      updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: "100%" } },
      template: renderPod(workload, layout, resolve, {
        ...serviceNeeds(workload, layout),
        environment,
        folderOfVolume: `nodes/$(${NODE_VARIABLE})`,
        nodes: layout.pools.filter(({ quota }) => quota.gpus > 0),
        runtimeClass: layout.runtimeClass,
      }),
    },
  };
}

const NODE_VARIABLE = "NODE_NAME";

function renderCronJob(
  workload: Workload,
  { name, intervalSeconds, command }: ScheduledJob,
  layout: ClusterLayout,
  resolve: Resolver,
): CronJobObject {
  return {
    apiVersion: "batch/v1",
    kind: "CronJob",
    metadata: inNamespace(layout, `${workload.name}-${name}`, workload.name),
    spec: {
      schedule: cronSchedule(intervalSeconds),
      timeZone: "Etc/UTC",
      concurrencyPolicy: "Forbid",
      // A controller that was away for a while catches up with one, and not with all that were missed.
      startingDeadlineSeconds: 600,
      ...KEPT_JOBS,
      jobTemplate: {
        metadata: { labels: labelsOf(layout, workload.name) },
        spec: {
          backoffLimit: 1,
          activeDeadlineSeconds: Math.max(3600, intervalSeconds),
          template: renderPod(workload, layout, resolve, {
            ...serviceNeeds(workload, layout),
            command,
            restartPolicy: "Never",
            liveness: false,
            probes: false,
          }),
        },
      },
    },
  };
}

/** Reached from within the cluster by name, and from outside through a tunnel alone. */
function renderServiceObject(workload: Workload, layout: ClusterLayout): ServiceObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: inNamespace(layout, workload.name),
    spec: {
      type: "ClusterIP",
      selector: labelsOf(layout, workload.name),
      ports: workload.ports.map(({ container }) => ({
        name: "http",
        port: container,
        targetPort: "http",
        protocol: "TCP",
      })),
    },
  };
}

/** How many pods of a workload may be taken at once for a node's sake. */
type Budget = { readonly maxUnavailable: number } | { readonly minAvailable: number };

/** None of them. A Job has no scale, so that of its pods only a number can be told: one that it never has. */
export const NONE_TAKEN: Budget = { minAvailable: 2 ** 31 - 1 };

export function renderBudget(layout: ClusterLayout, name: string, budget: Budget): DisruptionBudgetObject {
  return {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: inNamespace(layout, name),
    spec: {
      ...budget,
      selector: { matchLabels: { [LABELS.name]: name, [LABELS.instance]: layout.stack } },
      // A pod that is not ready is no reason to keep a node that has to go.
      unhealthyPodEvictionPolicy: "AlwaysAllow",
    },
  };
}
