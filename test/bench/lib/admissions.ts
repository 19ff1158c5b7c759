import { type Measure, measure, median } from "../../../scripts/lib/bench.ts";
import type { Report } from "../../../scripts/lib/steps.ts";
import type { Api, KubernetesObject } from "../../cluster/lib/api.ts";
import { TrainingStack } from "../../cluster/lib/stack.ts";
import { forEach, waitForQueue } from "./cluster-queue.ts";

const ROUNDS = 5;
const KUEUE = "kueue.x-k8s.io/v1beta2";
const LIMIT_MS = 1800_000;
const BARE = "bench-bare";
/** Of anything. Kueue counts thousandths of a CPU in 64 bits: 10P is none at all. */
const PLENTY = "100T";
const NAMESPACE = { apiVersion: "v1", kind: "Namespace" };

/** Objects that ask for admission, each by its number, and the queue that they ask. */
interface Contender {
  readonly queue: string;
  readonly object: (index: number) => KubernetesObject;
}

/** Admissions in a second, of one round. */
interface Rates {
  readonly ours: number;
  readonly jobSets: number;
  readonly workloads: number;
}

/** How fast runs are admitted, against a JobSet that asks for the same and nothing else, and against a Workload alone. */
export async function measureAdmissions(api: Api, runs: number, report: Report): Promise<readonly Measure[]> {
  const rounds: Rates[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    report(`admitting ${runs} runs, ${round + 1} of ${ROUNDS}`);
    rounds.push(await admitAll(api, runs, round));
  }
  const over = (name: string, unit: string, figure: (rates: Rates) => number, bound?: string) =>
    measure(name, median(rounds.map(figure)), unit, bound);
  return [
    over(`admissions of ${runs} runs of a stack`, "/s", ({ ours }) => ours),
    over("admissions of bare JobSets in a bare queue", "/s", ({ jobSets }) => jobSets),
    over("admissions of bare Workloads, with no job behind them", "/s", ({ workloads }) => workloads),
    over("runs of a stack / bare JobSets of the same round", "×", ({ ours, jobSets }) => ours / jobSets, ">= 0.9"),
    over("runs of a stack / bare Workloads of the same round", "×", ({ ours, workloads }) => ours / workloads),
  ];
}

/** The two that are compared take turns in going first: what was there before leaves a control plane something to do. */
async function admitAll(api: Api, runs: number, round: number): Promise<Rates> {
  const rates = { ours: 0, jobSets: 0, workloads: 0 };
  const turns = [
    async () => {
      rates.ours = await rate(api, runs, await ours(api, `bench-ours-${round}`, runs));
    },
    async () => {
      rates.jobSets = await rate(api, runs, await bare(api, `${BARE}-jobsets-${round}`, bareJobSet));
    },
  ];
  for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn();
  rates.workloads = await rate(api, runs, await bare(api, `${BARE}-workloads-${round}`, bareWorkload));
  return rates;
}

/** Applies all of them as fast as they are taken. @returns how many are admitted in a second, first to last. */
async function rate(api: Api, runs: number, { queue, object }: Contender): Promise<number> {
  const objects = Array.from({ length: runs }, (_, index) => object(index));
  const started = performance.now();
  const applying = forEach(runs, async (index) => await api.apply(objects[index] ?? object(index)));
  await waitForQueue(api, queue, ({ admitted }) => admitted === runs, { everyMs: 100, limitMs: LIMIT_MS });
  const seconds = (performance.now() - started) / 1000;
  await applying;
  await clear(api, objects);
  return runs / seconds;
}

/** Takes a round's objects away, so that the next finds the cluster as this one did. */
async function clear(api: Api, objects: readonly KubernetesObject[]): Promise<void> {
  const [first] = objects;
  if (first === undefined) return;
  await forEach(objects.length, async (index) => {
    const { metadata } = objects[index] ?? first;
    await api.remove(first, metadata.name ?? "", metadata.namespace);
  });
}

async function ours(api: Api, name: string, runs: number): Promise<Contender> {
  const stack = await TrainingStack.make(api, { name, gpus: runs });
  return { queue: `${stack.layout.namespace}-runs`, object: (index) => stack.renderJobSet(`run-${index}`) };
}

async function bare(
  api: Api,
  name: string,
  object: (name: string, index: number) => KubernetesObject,
): Promise<Contender> {
  await api.apply({ ...NAMESPACE, metadata: { name } });
  await api.apply({ apiVersion: KUEUE, kind: "ResourceFlavor", metadata: { name } });
  const resources = Object.keys(REQUESTS).map((resource) => ({ name: resource, nominalQuota: PLENTY }));
  const group = { coveredResources: Object.keys(REQUESTS), flavors: [{ name, resources }] };
  await api.apply({
    apiVersion: KUEUE,
    kind: "ClusterQueue",
    metadata: { name },
    spec: { namespaceSelector: {}, resourceGroups: [group] },
  });
  await api.apply({
    apiVersion: KUEUE,
    kind: "LocalQueue",
    metadata: { name: "runs", namespace: name },
    spec: { clusterQueue: name },
  });
  return { queue: name, object: (index) => object(name, index) };
}

/** What a run of the stack asks for where nothing is set. */
const REQUESTS = { cpu: "4", memory: "24Gi", "nvidia.com/gpu": "1" };
const POD = {
  spec: {
    restartPolicy: "Never",
    containers: [{ name: "main", image: "example.invalid/image", resources: { limits: REQUESTS, requests: REQUESTS } }],
  },
};

function bareJobSet(namespace: string, index: number): KubernetesObject {
  return {
    apiVersion: "jobset.x-k8s.io/v1alpha2",
    kind: "JobSet",
    metadata: { name: `run-${index}`, namespace, labels: { "kueue.x-k8s.io/queue-name": "runs" } },
    spec: { replicatedJobs: [{ name: "node", template: { spec: { template: POD } } }] },
  };
}

function bareWorkload(namespace: string, index: number): KubernetesObject {
  return {
    apiVersion: KUEUE,
    kind: "Workload",
    metadata: { name: `run-${index}`, namespace },
    spec: { queueName: "runs", podSets: [{ name: "main", count: 1, template: POD }] },
  };
}
