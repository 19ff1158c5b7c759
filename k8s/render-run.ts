import { createHash } from "node:crypto";
import type { RunPlan, Workload } from "../stacks/plan/types.ts";
import type { ClusterLayout, Resolver } from "./layout.ts";
import { clusterName, inNamespace, LABELS, LOCAL_QUEUE, labelsOf, NODE_JOB, runObjectName } from "./names.ts";
import type { JobSetObject, JobSetSpec, JobSpec, Metadata, PodTemplate } from "./objects.ts";
import { priorityClassName } from "./render-foundation.ts";
import { renderPod } from "./render-pod.ts";

/** Where the processes of a run on several nodes find each other. */
const RENDEZVOUS_PORT = 29500;

/** Exit codes that come again however often the run is started: a defect, settings, data, memory, model, disk, drift. */
const MISTAKES = [1, 2, 3, 4, 5, 6, 7];
/** Lost another process of the run, on another node or on this one. */
const LOST_ANOTHER = 8;
/** Stopped on request, with a checkpoint. */
const STOPPED = 75;
/** Tries after a death that nobody announced: killed for memory of the node, a GPU that fell off the bus. */
const RETRIES = 2;
/** What Google gives a pod on a spot machine before the machine goes: https://cloud.google.com/kubernetes-engine/docs/concepts/spot-vms. */
const SPOT_GRACE_SECONDS = 15;

/** A short hash of what a run was asked to do; a new image alone leaves it as it is. */
export function runSpecification({ workload }: RunPlan, { run }: ClusterLayout): string {
  const { image: _, reaches: __, ...asked } = workload;
  return createHash("sha256").update(JSON.stringify({ asked, run })).digest("hex").slice(0, 16);
}

/** The run as a JobSet of one job with a pod on each node, which Kueue holds back until there is room. */
export function renderJobSet(plan: RunPlan, layout: ClusterLayout, resolve: Resolver): JobSetObject {
  return {
    apiVersion: "jobset.x-k8s.io/v1alpha2",
    kind: "JobSet",
    metadata: queuedMetadata(plan, layout),
    spec: renderJobSetSpec(plan, layout, resolve),
  };
}

/** Metadata of the object that Kueue queues as the run. */
export function queuedMetadata(plan: RunPlan, layout: ClusterLayout): Metadata & { readonly namespace: string } {
  return {
    ...inNamespace(layout, runObjectName(plan.run), plan.workload.name),
    labels: {
      ...labelsOf(layout, plan.workload.name),
      ...runLabels(plan, layout),
      "kueue.x-k8s.io/queue-name": LOCAL_QUEUE,
      "kueue.x-k8s.io/priority-class": clusterName(layout, layout.run.priority),
    },
  };
}

/** What another controller wants of a JobSet that it makes: the name of the container, labels of the job. */
export interface JobSetNeeds {
  readonly container?: string;
  readonly jobLabels?: Readonly<Record<string, string>>;
}

export function renderJobSetSpec(
  plan: RunPlan,
  layout: ClusterLayout,
  resolve: Resolver,
  { container = plan.workload.name, jobLabels = {} }: JobSetNeeds = {},
): JobSetSpec {
  const name = runObjectName(plan.run);
  const pod = renderRunPod(plan, layout, resolve, { container, endpoint: rendezvous(name) });
  return {
    network: { enableDNSHostnames: true, subdomain: name },
    successPolicy: { operator: "All" },
    failurePolicy: {
      maxRestarts: RETRIES,
      restartStrategy: "BlockingRecreate",
      rules: [{ name: "mistake", action: "FailJobSet", onJobFailureReasons: ["PodFailurePolicy"] }],
    },
    replicatedJobs: [
      {
        name: NODE_JOB,
        replicas: 1,
        template: {
          metadata: { labels: { ...runLabels(plan, layout), ...jobLabels } },
          spec: renderJob(layout, container, pod),
        },
      },
    ],
  };
}

export function runLabels(plan: RunPlan, layout: ClusterLayout): Readonly<Record<string, string>> {
  return { [LABELS.run]: plan.run, [LABELS.specification]: runSpecification(plan, layout) };
}

/** The first pod's name in the headless service that JobSet makes. */
function rendezvous(name: string): string {
  return `${name}-${NODE_JOB}-0-0.${name}:${RENDEZVOUS_PORT}`;
}

/** What a pod that ended means: taken away, asked to stop, a mistake, or a death that may not come again. */
function renderJob({ run }: ClusterLayout, containerName: string, template: PodTemplate): JobSpec {
  const notItsDoing = isAlone(run) ? [STOPPED] : [LOST_ANOTHER, STOPPED];
  return {
    completionMode: "Indexed",
    completions: run.nodes,
    parallelism: run.nodes,
    backoffLimit: RETRIES,
    // A pod that still saves its checkpoint is no longer there to run beside its successor.
    podReplacementPolicy: "Failed",
    podFailurePolicy: {
      rules: [
        // Preemption, a drained node, a node that is gone: none of the run's doing, and the other pods of the run, which
        // end with it, are made anew as well.
        { action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] },
        { action: "Ignore", onExitCodes: { containerName, operator: "In", values: notItsDoing } },
        { action: "FailJob", onExitCodes: { containerName, operator: "In", values: MISTAKES } },
      ],
    },
    template,
  };
}

/** The pod of each node. Node labels and tolerations come from the flavor that Kueue chooses. */
function renderRunPod(
  plan: RunPlan,
  layout: ClusterLayout,
  resolve: Resolver,
  { container, endpoint }: { readonly container: string; readonly endpoint: string },
): PodTemplate {
  const { workload } = plan;
  const { run } = layout;
  return renderPod(workload, layout, resolve, {
    cpu: { request: String(run.cpus), limit: String(run.cpus) },
    memoryBytes: workload.memoryBytes ?? run.memoryBytes,
    gpus: workload.gpu === "none" ? 0 : run.gpus,
    priorityClass: priorityClassName(layout, "runs"),
    serviceAccount: workload.name,
    container,
    restartPolicy: "Never",
    graceSeconds: graceSeconds(workload, layout),
    liveness: false,
    probes: true,
    command: distributedCommand(workload.command ?? [], layout, endpoint),
    environment: [
      // A container cannot know its image by itself, and a run writes down what it was made with.
      { name: "TUNESTACK_IMAGE_DIGEST", value: resolve.image(workload.image) },
    ],
    labels: runLabels(plan, layout),
  });
}

export function graceSeconds(workload: Workload, { pools }: ClusterLayout): number {
  return pools.some(({ spot }) => spot)
    ? Math.min(workload.stopGraceSeconds, SPOT_GRACE_SECONDS)
    : workload.stopGraceSeconds;
}

function isAlone({ nodes, gpus }: ClusterLayout["run"]): boolean {
  return nodes === 1 && gpus === 1;
}

/**
 * One process alone is the command as it is; several are started by torchrun, which finds the other nodes, and whose
 * exit code the package's own launcher makes the run's.
 */
export function distributedCommand(
  command: readonly string[],
  { run }: Pick<ClusterLayout, "run">,
  endpoint: string,
): readonly string[] {
  if (isAlone(run)) return command;
  const [program, ...rest] = command;
  if (program !== "tunestack-train") throw new Error(`torchrun cannot start ${program}`);
  return [
    "python",
    "-m",
    "tunestack_train.launch",
    `--nnodes=${run.nodes}`,
    `--nproc-per-node=${run.gpus}`,
    ...(run.nodes === 1 ? ["--standalone"] : ["--rdzv-backend=c10d", `--rdzv-endpoint=${endpoint}`]),
    "-m",
    "tunestack_train",
    ...rest,
  ];
}
