import { basename, dirname } from "node:path";
import type { SubmittedJobs, Workload } from "../stacks/plan/types.ts";
import type { ClusterLayout, Resolver } from "./layout.ts";
import { clusterName, inNamespace, LABELS, LOCAL_QUEUE, labelsOf } from "./names.ts";
import type { ConfigMapObject, DeploymentObject, JobSpec, Rendered, RoleBindingObject, RoleObject } from "./objects.ts";
import { priorityClassName, renderServiceAccount } from "./render-foundation.ts";
import { renderPod } from "./render-pod.ts";
import { graceSeconds } from "./render-run.ts";
import { NONE_TAKEN, renderBudget, renderDeployment, serviceNeeds } from "./render-services.ts";

/** The pods of experiments, their container and service account. */
const EXPERIMENT = "experiment";
const TEMPLATE = "experiment-job";
/** An ended job is kept for a day, so that people can look at its pod. */
const KEPT_SECONDS = 24 * 3600;
/** On the template, for the runner: the most GPUs that one experiment can get. */
const MOST_GPUS = "tunestack.dev/most-gpus";

/** experiment-runner where experiments are jobs: a Deployment that may submit them, and what it makes them from. */
export function renderSubmitter(
  workload: Workload,
  submits: SubmittedJobs,
  layout: ClusterLayout,
  resolve: Resolver,
): readonly Rendered[] {
  const { name } = workload;
  return [
    { logicalName: `${EXPERIMENT}-account`, object: renderServiceAccount(layout, EXPERIMENT) },
    { logicalName: `${name}-role`, object: renderRole(layout, name) },
    { logicalName: `${name}-role-binding`, object: renderRoleBinding(layout, name) },
    { logicalName: TEMPLATE, object: renderTemplate(submits, layout, resolve) },
    { logicalName: name, object: renderRunner(workload, submits, layout, resolve) },
    { logicalName: `${name}-disruption-budget`, object: renderBudget(layout, name, { maxUnavailable: 1 }) },
    {
      logicalName: `${EXPERIMENT}-disruption-budget`,
      object: renderBudget(layout, EXPERIMENT, NONE_TAKEN),
    },
  ];
}

/** A small pod without GPUs: it waits for jobs. */
function renderRunner(
  workload: Workload,
  { command, mounts, template }: SubmittedJobs,
  layout: ClusterLayout,
  resolve: Resolver,
): DeploymentObject {
  const runner: Workload = { ...workload, command, mounts, gpu: "none", sharedMemoryBytes: undefined };
  return renderDeployment(runner, layout, resolve, {
    ...serviceNeeds(runner, layout),
    apiAccess: true,
    files: { configMap: TEMPLATE, folder: dirname(template) },
    environment: [{ name: "TUNESTACK_IMAGE_DIGEST", value: resolve.image(workload.image) }],
    labels: { [`${LABELS.reaches}/kubernetes`]: "true" },
  });
}

/** In its own namespace: jobs, and of their pods what they are and what they say. */
function renderRole(layout: ClusterLayout, name: string): RoleObject {
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "Role",
    metadata: inNamespace(layout, name),
    rules: [
      { apiGroups: ["batch"], resources: ["jobs"], verbs: ["create", "delete", "list", "patch"] },
      { apiGroups: [""], resources: ["pods"], verbs: ["list"] },
      { apiGroups: [""], resources: ["pods/log"], verbs: ["get"] },
    ],
  };
}

function renderRoleBinding(layout: ClusterLayout, name: string): RoleBindingObject {
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "RoleBinding",
    metadata: inNamespace(layout, name),
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
    subjects: [{ kind: "ServiceAccount", name, namespace: layout.namespace }],
  };
}

function renderTemplate({ template, job }: SubmittedJobs, layout: ClusterLayout, resolve: Resolver): ConfigMapObject {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: inNamespace(layout, TEMPLATE),
    data: { [basename(template)]: `${JSON.stringify(renderJob(job, layout, resolve), null, 2)}\n` },
  };
}

/** A Job but for what one experiment alone has: name, command, worktree, GPUs, time, and the runner's own image. */
function renderJob(job: SubmittedJobs["job"], layout: ClusterLayout, resolve: Resolver): object {
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      namespace: layout.namespace,
      labels: {
        ...labelsOf(layout, EXPERIMENT),
        "kueue.x-k8s.io/queue-name": LOCAL_QUEUE,
        "kueue.x-k8s.io/priority-class": clusterName(layout, layout.run.priority),
      },
      annotations: { [MOST_GPUS]: String(Math.max(...layout.pools.map(({ quota }) => quota.gpus))) },
    },
    spec: {
      // How often an experiment is tried is the experiment's own to say; its place or node can be taken any time.
      backoffLimit: 0,
      podReplacementPolicy: "Failed",
      podFailurePolicy: {
        rules: [{ action: "Ignore", onPodConditions: [{ type: "DisruptionTarget", status: "True" }] }],
      },
      ttlSecondsAfterFinished: KEPT_SECONDS,
      template: renderTemplatePod(job, layout, resolve),
    } satisfies JobSpec,
  };
}

function renderTemplatePod(job: SubmittedJobs["job"], layout: ClusterLayout, resolve: Resolver): object {
  const workload: Workload = { ...job, command: undefined };
  const { metadata, spec } = renderPod(workload, layout, resolve, {
    cpu: { request: String(layout.run.cpus), limit: String(layout.run.cpus) },
    memoryBytes: layout.run.memoryBytes,
    gpus: 0,
    priorityClass: priorityClassName(layout, "runs"),
    serviceAccount: EXPERIMENT,
    restartPolicy: "Never",
    graceSeconds: graceSeconds(workload, layout),
    liveness: false,
    probes: false,
  });
  // What is known only later cannot be part of a file.
  return {
    metadata,
    spec: JSON.parse(JSON.stringify(spec, (key, value: unknown) => (key === "image" ? undefined : value))),
  };
}
