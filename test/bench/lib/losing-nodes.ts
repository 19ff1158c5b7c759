import { z } from "zod";
import { type Measure, measure } from "../../../scripts/lib/bench.ts";
import type { Report } from "../../../scripts/lib/steps.ts";
import type { Api, KubernetesObject } from "../../cluster/lib/api.ts";
import { addPools, gpuPool } from "../../cluster/lib/nodes.ts";
import { isAtWork, JOBSET, POD, podSchema, TrainingStack } from "../../cluster/lib/stack.ts";
import { AFTER_ANNOTATION, EXIT_ANNOTATION } from "../../cluster/lib/stages.ts";
import { forEach, queueState, waitForQueue } from "./cluster-queue.ts";

const NAME = "bench-loss";
const NODE = { apiVersion: "v1", kind: "Node" };
const JOB = { apiVersion: "batch/v1", kind: "Job" };
/** How long a run trains. */
const TRAINS = "30s";
const LIMIT_MS = 3 * 3600_000;

const ownedSchema = z.object({
  metadata: z.object({
    name: z.string(),
    deletionTimestamp: z.string().optional(),
    ownerReferences: z.array(z.object({ uid: z.string() })).default([]),
    uid: z.string(),
  }),
});
const jobSetSchema = ownedSchema.extend({
  status: z.object({ terminalState: z.string().optional() }).default({}),
});
const jobSchema = ownedSchema.extend({
  status: z.object({ succeeded: z.int().default(0), active: z.int().default(0) }).default({ succeeded: 0, active: 0 }),
});

interface Seen {
  /** Nodes that are gone, on each of which a run was at work. */
  readonly lost: Set<string>;
  /** The most at one time. */
  reserved: number;
  atWork: number;
}

/** As many runs as there are, on nodes of which a tenth is lost while they train. */
export async function measureLoss(
  api: Api,
  { nodes, runs }: { readonly nodes: number; readonly runs: number },
  report: Report,
): Promise<readonly Measure[]> {
  report(`making ${nodes} nodes`);
  await addPools(api, [gpuPool(NAME, nodes)]);
  const stack = await TrainingStack.make(api, { name: NAME, gpus: nodes });
  const queue = `${stack.layout.namespace}-runs`;
  const started = performance.now();
  let submitted = 0;
  const seen: Seen = { lost: new Set(), reserved: 0, atWork: 0 };
  const submitting = forEach(runs, async (index) => {
    await api.apply(ending(stack.renderJobSet(`run-${index}`)));
    submitted += 1;
  });
  await waitForQueue(
    api,
    queue,
    ({ pending, reserving }) => submitted === runs && pending === 0 && reserving === 0,
    { everyMs: 2000, limitMs: LIMIT_MS },
    async ({ pending, gpus }) => {
      report(`${submitted} of ${runs} runs submitted, ${pending} wait, ${gpus} train, ${seen.lost.size} nodes lost`);
      await look(api, stack.layout.namespace, gpus, seen);
      if (seen.atWork > 0) await loseSome(api, stack.layout.namespace, Math.ceil(nodes / 10), seen);
    },
  );
  await submitting;
  const seconds = (performance.now() - started) / 1000;
  report("counting what is left");
  const left = await whatIsLeft(api, stack.layout.namespace);
  const { gpus } = await queueState(api, queue);
  return [
    measure(`runs on ${nodes} nodes, each of ${TRAINS}`, runs, ""),
    measure("nodes lost, with a run at work on each", seen.lost.size, "", `== ${Math.ceil(nodes / 10)}`),
    measure("runs that ended exactly once", left.endedOnce, "", `== ${runs}`),
    measure("GPUs reserved at most / quota", seen.reserved / nodes, "×", "<= 1"),
    measure("pods at work at most / quota", seen.atWork / nodes, "×", "<= 1"),
    measure("orphans: pods, jobs, reservations that nobody ends", left.orphans + gpus, "", "== 0"),
    measure("time from the first submission to the last end", seconds, "s"),
  ];
}

/** The run's pods end by themselves, well. */
function ending(jobSet: KubernetesObject): KubernetesObject {
  const annotations = JSON.stringify({ [EXIT_ANNOTATION]: "0", [AFTER_ANNOTATION]: TRAINS });
  const text = JSON.stringify(jobSet);
  // The labels of a pod stand beside its specification, and nothing else has the two.
  const given = text.replace(/"template":\{"metadata":\{(?="labels":\{"app)/, `$&"annotations":${annotations},`);
  if (given === text) throw new Error("the run's pod has no metadata");
  return JSON.parse(given) as KubernetesObject;
}

async function atWork(api: Api, namespace: string) {
  const running = await api.list(POD, namespace, "", "status.phase=Running");
  return running.map((one) => podSchema.parse(one)).filter(isAtWork);
}

async function look(api: Api, namespace: string, gpus: number, seen: Seen): Promise<void> {
  seen.reserved = Math.max(seen.reserved, gpus);
  seen.atWork = Math.max(seen.atWork, (await atWork(api, namespace)).length);
}

/** Takes away some nodes on which runs are at work, a few at a time. */
async function loseSome(api: Api, namespace: string, wanted: number, { lost }: Seen): Promise<void> {
  const used = new Set((await atWork(api, namespace)).map(({ spec }) => spec.nodeName ?? ""));
  // A pod on a node that is gone is at work by its own account, until the control plane has found out.
  const chosen = [...used].filter((node) => !lost.has(node)).slice(0, Math.ceil(wanted / 5));
  for (const node of chosen.slice(0, wanted - lost.size)) {
    await api.remove(NODE, node);
    lost.add(node);
  }
}

/** What became of the runs, by what the Jobs counted: a pod is counted once, also when it is gone. */
async function whatIsLeft(api: Api, namespace: string) {
  const jobSets = z.array(jobSetSchema).parse(await api.list(JOBSET, namespace));
  const jobs = z.array(jobSchema).parse(await api.list(JOB, namespace));
  const pods = (await api.list(POD, namespace)).map((one) => ownedSchema.and(podSchema).parse(one));
  const owners = new Set([...jobSets, ...jobs].map(({ metadata }) => metadata.uid));
  const isOwned = ({ metadata }: z.output<typeof ownedSchema>) =>
    metadata.ownerReferences.some(({ uid }) => owners.has(uid));
  const endedOnce = jobSets.filter(({ metadata, status }) => {
    const own = jobs.filter((job) => job.metadata.ownerReferences.some(({ uid }) => uid === metadata.uid));
    return status.terminalState === "Completed" && own.length === 1 && own[0]?.status.succeeded === 1;
  }).length;
  const orphans = [
    ...jobs.filter((job) => !isOwned(job) || job.status.active > 0),
    ...pods.filter((pod) => !isOwned(pod) || pod.status.phase === "Running" || pod.status.phase === "Pending"),
  ].length;
  return { endedOnce, orphans };
}
