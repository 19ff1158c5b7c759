import { z } from "zod";
import type { ClusterLayout } from "../../../k8s/layout.ts";
import { renderRunAs } from "../../../k8s/render.ts";
import { makePlan } from "../../../stacks/plan/plan.ts";
import type { RawSettings } from "../../../stacks/settings/layers.ts";
import { clusterLayout } from "../../../stacks/targets/kubernetes/layout.ts";
import { kubernetesInputs } from "../../lib/inputs.ts";
import { type PodTemplate, RESOLVED, renderCluster } from "../../lib/kubernetes.ts";
import type { Api, KubernetesObject } from "./api.ts";
import { POOL_LABEL } from "./nodes.ts";
import { EXIT_ANNOTATION } from "./stages.ts";
import { until } from "./until.ts";

export const JOBSET = { apiVersion: "jobset.x-k8s.io/v1alpha2", kind: "JobSet" };
export const TRAIN_JOB = { apiVersion: "trainer.kubeflow.org/v1alpha1", kind: "TrainJob" };
export const POD = { apiVersion: "v1", kind: "Pod" };
export const WORKLOAD = { apiVersion: "kueue.x-k8s.io/v1beta2", kind: "Workload" };
const CLAIM = { apiVersion: "v1", kind: "PersistentVolumeClaim" };

const condition = z.object({ type: z.string(), status: z.string(), reason: z.string().optional() });

export const podSchema = z.object({
  metadata: z.object({
    name: z.string(),
    uid: z.string(),
    deletionTimestamp: z.string().optional(),
    labels: z.record(z.string(), z.string()),
    annotations: z.record(z.string(), z.string()).default({}),
  }),
  spec: z.object({
    nodeName: z.string().optional(),
    hostname: z.string().optional(),
    subdomain: z.string().optional(),
    containers: z.array(z.looseObject({ args: z.array(z.string()).default([]) })),
    volumes: z.array(z.looseObject({ name: z.string() })),
  }),
  status: z.object({ phase: z.string(), conditions: z.array(condition).default([]) }),
});
export type Pod = z.infer<typeof podSchema>;

const jobSetSchema = z.object({
  metadata: z.object({ name: z.string() }),
  status: z
    .object({
      terminalState: z.string().optional(),
      restarts: z.int().default(0),
      conditions: z.array(condition).default([]),
    })
    .default({ restarts: 0, conditions: [] }),
});

export const workloadSchema = z.object({
  metadata: z.object({ name: z.string(), ownerReferences: z.array(z.object({ name: z.string() })).default([]) }),
  status: z
    .object({
      conditions: z.array(condition).default([]),
      admission: z.looseObject({}).optional(),
      requeueState: z.looseObject({}).optional(),
    })
    .default({ conditions: [] }),
});
export type WorkloadObject = z.infer<typeof workloadSchema>;

/** Plain data, as the API takes it. */
export function plain(object: object): KubernetesObject {
  return JSON.parse(JSON.stringify(object)) as KubernetesObject;
}

/** Applies objects one after the other, as a stack does. @returns what the server made of them, and its warnings. */
export async function applyAll(api: Api, objects: readonly object[]) {
  const applied = [];
  for (const object of objects) applied.push(await api.apply(plain(object)));
  return applied;
}

type Applied = Awaited<ReturnType<typeof applyAll>>;

/** What the server said of objects that it took, each with the object's name. */
export function warningsOf(applied: Applied): readonly string[] {
  return applied.flatMap(({ kind, metadata, warnings }) => warnings.map((one) => `${kind} ${metadata.name}: ${one}`));
}

/** What the server shows of an object as it was asked for: the rest is written otherwise, and means the same. */
export function kept(object: object): object {
  // A secret is written as text and kept in base 64; what is false by default is not written back.
  const { stringData: _, globalDefault: __, ...rest } = plain(object);
  return rest;
}

/** Asks whether the pods of a template would be taken, and changes nothing. */
export async function tryAsPod(api: Api, namespace: string, name: string, { metadata, spec }: PodTemplate) {
  return await api.apply({ ...POD, metadata: { ...metadata, name, namespace }, spec }, "tunestack", true);
}

/** The class of NVIDIA's runtime, as its operator makes it. */
export async function addRuntimeClass(api: Api): Promise<void> {
  const name = "nvidia";
  await api.apply({ apiVersion: "node.k8s.io/v1", kind: "RuntimeClass", metadata: { name }, ...{ handler: name } });
}

/** Gives each claim of a namespace a volume, as a cluster's provisioner does; one that names its volume needs none. */
export async function provideVolumes(api: Api, namespace: string): Promise<void> {
  for (const { metadata, spec } of await api.list<KubernetesObject & { spec: Record<string, unknown> }>(
    CLAIM,
    namespace,
  )) {
    if (spec.volumeName !== undefined) continue;
    await api.apply(
      {
        apiVersion: "v1",
        kind: "PersistentVolume",
        metadata: { name: `${namespace}-${metadata.name}` },
        spec: {
          accessModes: spec.accessModes,
          capacity: { storage: "10Ti" },
          claimRef: { namespace, name: metadata.name },
          hostPath: { path: `/volumes/${namespace}/${metadata.name}` },
          persistentVolumeReclaimPolicy: "Delete",
          ...(spec.storageClassName === undefined ? {} : { storageClassName: spec.storageClassName }),
        },
      },
      "provisioner",
    );
  }
}

export interface StackOptions {
  /** Name of the stack, and of the pool whose nodes its runs go to. */
  readonly name: string;
  /** Quota of GPUs. */
  readonly gpus: number;
  /** Of `kubernetes.run`. */
  readonly run?: RawSettings;
  readonly runAs?: ClusterLayout["runAs"];
}

const RUN_KINDS: readonly string[] = ["JobSet", "TrainingRuntime", "TrainJob"];

/** A stack that only trains, whose queue has the nodes of one pool. */
export class TrainingStack {
  private constructor(
    private readonly api: Api,
    readonly name: string,
    private readonly kubernetes: RawSettings,
    readonly layout: ClusterLayout,
  ) {}

  static async make(api: Api, { name, gpus, run = {}, runAs = "jobset" }: StackOptions): Promise<TrainingStack> {
    const pool = { gpu: "L4", nodeLabels: { [POOL_LABEL]: name }, gpus, cpus: 48 * gpus, memory: `${192 * gpus}GiB` };
    const kubernetes = { queue: { pools: [pool] }, run, runAs };
    const { objects, layout } = renderCluster({ stack: name, kubernetes, settings: { profiles: ["training"] } });
    await applyAll(
      api,
      objects.filter(({ kind }) => !RUN_KINDS.includes(kind)),
    );
    await provideVolumes(api, layout.namespace);
    return new TrainingStack(api, name, kubernetes, layout);
  }

  /** The objects of a run, by the name of the run and what it changes of `kubernetes.run`. */
  render(run: string, changes: RawSettings = {}): readonly KubernetesObject[] {
    const kubernetes = { ...this.kubernetes, run: { ...(this.kubernetes.run as RawSettings), ...changes } };
    const inputs = kubernetesInputs({
      stack: this.name,
      kubernetes,
      settings: { training: { run, preset: "rehearsal" } },
    });
    const plan = makePlan(inputs).run;
    if (plan === undefined) throw new Error("the stack has no run");
    return renderRunAs(plan, clusterLayout(inputs), RESOLVED).map(({ object }) => plain(object));
  }

  /** The one object of a run that is a JobSet. */
  renderJobSet(run: string): KubernetesObject {
    const [object, ...others] = this.render(run);
    if (object?.kind !== JOBSET.kind || others.length > 0) throw new Error(`${run} is not a JobSet alone`);
    return object;
  }

  async submit(run: string, changes: RawSettings = {}) {
    return await applyAll(this.api, this.render(run, changes));
  }

  async pods(run?: string): Promise<readonly Pod[]> {
    const selector = run === undefined ? "" : `jobset.sigs.k8s.io/jobset-name=${run}`;
    return z.array(podSchema).parse(await this.api.list(POD, this.layout.namespace, selector));
  }

  /** Waits until as many pods of a run are at work as it has nodes. */
  async running(run: string, count = 1): Promise<readonly Pod[]> {
    return await until(
      `${run} runs`,
      async () => {
        const pods = (await this.pods(run)).filter(isAtWork);
        return pods.length === count ? pods : undefined;
      },
      () => this.told(run),
    );
  }

  /** Ends the pods of a run that are at work, as a program does that exits with this code. */
  async end(run: string, code = 0): Promise<void> {
    for (const { metadata } of (await this.pods(run)).filter(isAtWork)) await this.endPod(metadata.name, code);
  }

  async endPod(name: string, code: number): Promise<void> {
    const patch = { metadata: { annotations: { [EXIT_ANNOTATION]: String(code) } } };
    await this.api.merge(POD, name, this.layout.namespace, patch);
  }

  /** Waits until a run has ended for good. */
  async ended(run: string): Promise<{ readonly state: string; readonly restarts: number }> {
    return await until(
      `${run} ends`,
      async () => {
        const { status } = jobSetSchema.parse(await this.api.get(JOBSET, run, this.layout.namespace));
        return status.terminalState === undefined
          ? undefined
          : { state: status.terminalState, restarts: status.restarts };
      },
      () => this.told(run),
    );
  }

  /** Kueue's view of a run. */
  async workload(run: string): Promise<WorkloadObject> {
    return await until(`Kueue sees ${run}`, async () => {
      const all = z.array(workloadSchema).parse(await this.api.list(WORKLOAD, this.layout.namespace));
      return all.find(({ metadata }) => metadata.ownerReferences.some(({ name }) => name === run));
    });
  }

  /** What the cluster says of a run, for the message of a test that waited in vain. */
  private async told(run: string): Promise<string> {
    const jobSet = jobSetSchema.safeParse(await this.api.get(JOBSET, run, this.layout.namespace)).data;
    const events = await this.api.list<KubernetesObject & { message?: string; reason?: string }>(
      { apiVersion: "v1", kind: "Event" },
      this.layout.namespace,
    );
    return JSON.stringify(
      {
        jobSet: jobSet?.status,
        workload: (await this.workload(run)).status,
        pods: await this.pods(run),
        events: events.slice(-20).map(({ reason, message }) => `${reason}: ${message}`),
      },
      null,
      1,
    );
  }
}

export function isAtWork({ metadata, status }: Pod): boolean {
  return status.phase === "Running" && metadata.deletionTimestamp === undefined;
}

export function holds(conditions: readonly { type: string; status: string }[], type: string): boolean {
  return conditions.some((one) => one.type === type && one.status === "True");
}
