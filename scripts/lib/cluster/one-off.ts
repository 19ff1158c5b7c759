import { setTimeout as sleep } from "node:timers/promises";
import type { V1Job } from "@kubernetes/client-node";
import { readFiles } from "../../../k8s/files.ts";
import type { ClusterLayout } from "../../../k8s/layout.ts";
import { clusterName, inNamespace, LOCAL_QUEUE, runObjectName } from "../../../k8s/names.ts";
import { priorityClassName } from "../../../k8s/render-foundation.ts";
import { renderPod } from "../../../k8s/render-pod.ts";
import type { Workload } from "../../../stacks/plan/types.ts";
import type { StackInputs } from "../../../stacks/settings/load.ts";
import { EXIT, UserError } from "../errors.ts";
import type { Ended, OneOff } from "../workloads.ts";
import type { ClusterClient } from "./client.ts";
import { STAY, startJob } from "./helper-pod.ts";
import { layoutOf } from "./layout.ts";
import { queueText, workloadOf } from "./queue.ts";
import { readQueue } from "./run.ts";
import { execute, KILLED, type PodPlace } from "./streams.ts";
import { packed } from "./tar.ts";

/**
 * Runs a workload in a pod of its own, which waits in the queue of the stack's runs for what it takes of the nodes, and
 * removes the pod.
 */
export async function runOneOff(client: ClusterClient, inputs: StackInputs, job: OneOff): Promise<Ended> {
  const { container, image, workload, tell, collect } = job;
  refuseOwnFolder(workload, inputs);
  const body = renderOneOff(runObjectName(container), image, workload, layoutOf(inputs));
  await refuseBusy(client, body);
  const wait = (made: V1Job) => placeInQueue(client, made);
  const own = await startJob(client, body, { report: tell, patienceMs: PATIENCE_MS, wait });
  const remove = () => void own.remove();
  process.once("SIGINT", remove).once("SIGTERM", remove);
  try {
    const ended = await runTelling(client, own.place, workload.command ?? [], tell);
    if (ended.exitCode === 0) await collect?.((path) => packed(client.config, own.place, path), ended);
    return ended;
  } finally {
    process.off("SIGINT", remove).off("SIGTERM", remove);
    await own.remove();
  }
}

/** The job as the API server gets it; pure. */
export function renderOneOff(name: string, image: string, workload: Workload, layout: ClusterLayout): V1Job {
  const { run } = layout;
  const template = renderPod(
    workload,
    layout,
    { image: () => image, secret: () => "", files: readFiles },
    {
      cpu: { request: String(run.cpus), limit: String(run.cpus) },
      memoryBytes: workload.memoryBytes ?? run.memoryBytes,
      gpus: workload.gpu === "none" ? 0 : 1,
      priorityClass: priorityClassName(layout, "runs"),
      serviceAccount: workload.name,
      restartPolicy: "Never",
      graceSeconds: workload.stopGraceSeconds,
      liveness: false,
      probes: false,
      command: STAY,
    },
  );
  const { labels, ...metadata } = inNamespace(layout, name, workload.name);
  const object = {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      ...metadata,
      labels: {
        ...labels,
        "kueue.x-k8s.io/queue-name": LOCAL_QUEUE,
        "kueue.x-k8s.io/priority-class": clusterName(layout, run.priority),
      },
    },
    spec: { suspend: true, backoffLimit: 0, ttlSecondsAfterFinished: 60, template },
  };
  // What Pulumi's types leave open (a value that comes later) is plain here.
  return JSON.parse(JSON.stringify(object)) as V1Job;
}

async function placeInQueue(client: ClusterClient, { metadata }: V1Job): Promise<string | undefined> {
  const all = await readQueue(client);
  const own = workloadOf(all, metadata?.uid);
  return own === undefined ? undefined : queueText(all, own);
}

async function runTelling(
  client: ClusterClient,
  place: PodPlace,
  command: readonly string[],
  tell: (line: string) => void,
): Promise<Ended> {
  const { stdout, stderr, exitCode } = await execute(client.config, place, command);
  const [out, err] = await Promise.all([collectLines(stdout, () => undefined), collectLines(stderr, tell)]);
  return { exitCode: (await exitCode) ?? KILLED, stdout: out, stderr: err };
}

async function collectLines(stream: AsyncIterable<Buffer>, tell: (line: string) => void): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let rest = "";
  for await (const chunk of stream) {
    const piece = decoder.decode(chunk, { stream: true });
    text += piece;
    const lines = (rest + piece).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) tell(line);
  }
  return text;
}

const POLL_MS = 500;
/** A node may have to be made, and has to pull gigabytes then. */
const PATIENCE_MS = 20 * 60_000;

/** @throws UserError where one of this name is at work; one that has ended is removed. */
async function refuseBusy(client: ClusterClient, { metadata }: V1Job): Promise<void> {
  const { namespace, batch } = client;
  const name = metadata?.name ?? "";
  const found = await client.find(() => batch.readNamespacedJob({ name, namespace }));
  if (found === undefined) return;
  const isEnd = (type: string) => type === "Complete" || type === "Failed";
  if (found.status?.conditions?.some(({ type, status }) => isEnd(type) && status === "True") !== true) {
    throw new UserError(
      [
        {
          path: `job ${name}`,
          value: namespace,
          reason: "is at work already",
          remedy: `wait for it, or end it: kubectl --namespace ${namespace} delete job ${name}`,
        },
      ],
      EXIT.refused,
      "job",
    );
  }
  await client.find(() => batch.deleteNamespacedJob({ name, namespace, propagationPolicy: "Foreground" }));
  while ((await client.find(() => batch.readNamespacedJob({ name, namespace }))) !== undefined) await sleep(POLL_MS);
}

/** A folder of this machine is in the cluster only where the stack declares it, which holds for the run's own. */
function refuseOwnFolder({ mounts }: Workload, { model }: StackInputs): void {
  const declared = model?.kind === "host" ? model.path : undefined;
  const foreign = mounts.find((mount) => mount.kind === "host" && mount.source !== declared);
  if (foreign === undefined || foreign.kind !== "host") return;
  throw new UserError(
    [
      {
        path: "--base",
        value: foreign.source,
        reason: "is a folder of this machine, which a cluster has not",
        remedy: "put the model on the Hugging Face hub, or move the run here and export it here: npm run move",
      },
    ],
    EXIT.settings,
    "command line",
  );
}
