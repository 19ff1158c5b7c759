import { setTimeout as sleep } from "node:timers/promises";
import type { V1Job, V1Pod, V1PodTemplateSpec } from "@kubernetes/client-node";
import { LABELS } from "../../../k8s/names.ts";
import { GPU_RESOURCE } from "../../../stacks/settings/gpu-nodes.ts";
import { formatDuration } from "../../../stacks/settings/units.ts";
import { machineError } from "../errors.ts";
import type { Report } from "../steps.ts";
import type { ClusterClient } from "./client.ts";
import { hasEnded, isAtWork, obstacleOf } from "./states.ts";
import { type PodPlace, runToEnd } from "./streams.ts";

/** What a command that is killed leaves ends by itself this long after its last sign of life. */
const WITHOUT_SIGN_MINUTES = 5;
const SIGN_MS = 60_000;
const POLL_MS = 1000;
/** However long a command goes on, its pod does not outlive this. */
const LONGEST_SECONDS = 24 * 3600;
/** The pod does nothing but be there: 100 m of a core, and memory for restic or for a copy. */
const RESOURCES = { cpu: "100m", memory: "1Gi" };
const NAME = "helper";

/** Goes on as long as the command gives signs of life; ends at once when it is asked to. */
export const STAY: readonly string[] = [
  "sh",
  "-c",
  `trap 'exit 0' TERM; touch /tmp/alive; while [ -n "$(find /tmp/alive -mmin -${WITHOUT_SIGN_MINUTES})" ]; do sleep 5 & wait $!; done`,
];
const SIGN = ["touch", "/tmp/alive"];

/** A job with one pod, in which commands are run. */
export interface OwnPod {
  readonly place: PodPlace;
  readonly node: string;
  /** Ends the pod. */
  readonly remove: () => Promise<void>;
}

/**
 * A pod with the volumes and secrets of a workload's own pods, for as long as a command has use for it.
 * @param template of the workload's pods.
 * @param keepMemory the workload's own need is kept: its program is run in the pod.
 */
export function helperJob(template: V1PodTemplateSpec, stack: string, keepMemory: boolean): V1Job {
  const { [LABELS.run]: _run, [LABELS.specification]: _asked, ...labels } = template.metadata?.labels ?? {};
  const {
    nodeSelector: _node,
    affinity: _affinity,
    schedulingGates: _gates,
    ...spec
  } = template.spec ?? { containers: [] };
  const [container] = spec.containers;
  if (container === undefined) throw new Error("a pod without a container");
  const { ports: _ports, livenessProbe: _live, readinessProbe: _ready, startupProbe: _start, ...kept } = container;
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      generateName: `${NAME}-`,
      labels: { [LABELS.name]: NAME, [LABELS.instance]: stack, [LABELS.partOf]: "tunestack" },
    },
    spec: {
      backoffLimit: 0,
      activeDeadlineSeconds: LONGEST_SECONDS,
      ttlSecondsAfterFinished: 60,
      template: {
        metadata: { labels: { ...labels, [LABELS.name]: NAME } },
        spec: {
          ...spec,
          restartPolicy: "Never",
          terminationGracePeriodSeconds: 10,
          containers: [{ ...kept, args: [...STAY], resources: resourcesOf(container.resources, keepMemory) }],
        },
      },
    },
  };
}

function resourcesOf(
  own: V1PodTemplateSpecResources | undefined,
  keepMemory: boolean,
): NonNullable<V1PodTemplateSpecResources> {
  const { [GPU_RESOURCE]: _gpu, ...limits } = own?.limits ?? {};
  if (keepMemory) return { requests: { ...own?.requests }, limits };
  const storage = limits["ephemeral-storage"];
  const asked = { ...RESOURCES, ...(storage === undefined ? {} : { "ephemeral-storage": storage }) };
  return { requests: asked, limits: { ...asked, cpu: "2" } };
}

type V1PodTemplateSpecResources = NonNullable<
  NonNullable<V1PodTemplateSpec["spec"]>["containers"][number]["resources"]
>;

export interface Start {
  /** Is told what it waits for. */
  readonly report: Report;
  /** How long the pod may take to come up; time in a queue does not count. */
  readonly patienceMs: number;
  /** Tells what holds the job itself back, such as a queue. */
  readonly wait?: (job: V1Job) => Promise<string | undefined>;
}

/**
 * Makes a job and waits until its pod is at work; signs of life go there until it is removed.
 * @throws UserError where it does not come up in time, or cannot.
 */
export async function startJob(client: ClusterClient, job: V1Job, start: Start): Promise<OwnPod> {
  const { namespace } = client;
  const made = await client.call(() => client.batch.createNamespacedJob({ namespace, body: job }), []);
  const name = made.metadata?.name ?? "";
  const remove = async () => {
    await client.find(() => client.batch.deleteNamespacedJob({ name, namespace, propagationPolicy: "Background" }));
  };
  try {
    const pod = await untilAtWork(client, made, start);
    const place = { namespace, pod: pod.metadata?.name ?? "", container: pod.spec?.containers[0]?.name ?? "" };
    // A sign that does not get through is followed by the next.
    const signs = setInterval(() => void runToEnd(client.config, place, SIGN).catch(() => undefined), SIGN_MS);
    return {
      place,
      node: pod.spec?.nodeName ?? "",
      remove: async () => {
        clearInterval(signs);
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function untilAtWork(client: ClusterClient, job: V1Job, { report, patienceMs, wait }: Start): Promise<V1Pod> {
  const name = job.metadata?.name ?? "";
  let deadline = Date.now() + patienceMs;
  for (;;) {
    const [pod] = await podsOf(client, `batch.kubernetes.io/job-name=${name}`);
    if (pod !== undefined && isAtWork(pod)) return pod;
    const queued = pod === undefined ? await wait?.(job) : undefined;
    // A queue takes as long as it takes.
    if (queued !== undefined) deadline = Date.now() + patienceMs;
    const obstacle = pod === undefined ? queued : obstacleOf(pod);
    report(obstacle ?? "waits for its pod");
    if (pod !== undefined && hasEnded(pod)) throw notUp(client, name, "ended before it could be used");
    if (obstacle !== undefined && /^(InvalidImageName|CreateContainerConfigError)/.test(obstacle))
      throw notUp(client, name, obstacle);
    if (Date.now() > deadline)
      throw notUp(client, name, `${obstacle ?? "has no pod"}, after ${formatDuration(patienceMs / 1000)}`);
    await sleep(POLL_MS);
  }
}

export async function podsOf(client: ClusterClient, labelSelector: string): Promise<readonly V1Pod[]> {
  const { namespace } = client;
  return (await client.call(() => client.core.listNamespacedPod({ namespace, labelSelector }))).items;
}

function notUp({ namespace, stack }: ClusterClient, name: string, reason: string): Error {
  return machineError({
    path: `job ${name}`,
    value: namespace,
    reason,
    remedy: `npm run doctor -- --stack ${stack} looks at the cluster; kubectl --namespace ${namespace} describe pods --selector batch.kubernetes.io/job-name=${name} tells more`,
  });
}
