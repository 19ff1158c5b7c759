import { setTimeout as sleep } from "node:timers/promises";
import { type KubernetesObject, PatchStrategy, type V1Pod } from "@kubernetes/client-node";
import { z } from "zod";
import { LABELS } from "../../../k8s/names.ts";
import { type ObjectName, RUN_KINDS, type RunKind, type RunTemplate, readTemplate } from "../../../k8s/run-kinds.ts";
import type { RunOutput } from "../../../stacks/outputs.ts";
import { GPU_RESOURCE } from "../../../stacks/settings/gpu-nodes.ts";
import { EXIT, machineError, UserError } from "../errors.ts";
import { type ContainerState, MISSING } from "../workloads.ts";
import { appliedBy } from "./applied.ts";
import { type ClusterClient, isMissing } from "./client.ts";
import { podsOf } from "./helper-pod.ts";
import { type QueuedWorkload, workloadOf, workloadSchema } from "./queue.ts";
import { byAge, hasEnded, runState } from "./states.ts";

const KUEUE = "kueue.x-k8s.io/v1beta2";
const POLL_MS = 500;
/** Kueue makes its object within a moment, and the API server forgets a pod that has ended within a few. */
const PATIENCE_MS = 60_000;

export interface FoundRun {
  readonly kind: RunKind;
  readonly object: KubernetesObject;
}

/** The run of a stack: its object, its pods, and what Kueue has of it. */
export class ClusterRun {
  constructor(
    private readonly client: ClusterClient,
    private readonly run: RunOutput,
  ) {}

  async find(): Promise<FoundRun | undefined> {
    for (const kind of RUN_KINDS) {
      const object = await this.#read({ apiVersion: kind.apiVersion, kind: kind.kind, name: this.run.container });
      if (object !== undefined) return { kind, object };
    }
    return undefined;
  }

  /** The run's pods as its object, or the one that it names, describes them. */
  async template(): Promise<RunTemplate | undefined> {
    const found = await this.find();
    return found === undefined ? undefined : await readTemplate(found.kind, found.object, (name) => this.#read(name));
  }

  async #read({ apiVersion, kind, name }: ObjectName): Promise<KubernetesObject | undefined> {
    const { namespace, objects } = this.client;
    return await this.client.find(() =>
      objects.read<KubernetesObject>({ apiVersion, kind, metadata: { name, namespace } }),
    );
  }

  async pods(): Promise<readonly V1Pod[]> {
    const labels = `${LABELS.run}=${this.run.name},${LABELS.instance}=${this.client.stack}`;
    return [...(await podsOf(this.client, labels))].sort(byAge);
  }

  async state(): Promise<ContainerState> {
    const found = await this.find();
    if (found === undefined) return MISSING;
    const [pods, all] = await Promise.all([this.pods(), readQueue(this.client)]);
    const own = workloadOf(all, found.object.metadata?.uid);
    return runState({ ended: found.kind.ended(found.object), own, all, pods, gpu: await this.#gpuOf(pods.at(-1)) });
  }

  /**
   * Stops the run for good: it gives its place in the queue back, its pods are asked to end and save within the grace of
   * their own, and Kueue does not start it again of itself.
   */
  async stop(graceSeconds: number): Promise<void> {
    await this.#setActive(false);
    const deadline = Date.now() + graceSeconds * 1000 + PATIENCE_MS;
    while ((await this.pods()).some((pod) => !hasEnded(pod))) {
      if (Date.now() > deadline) throw this.#notGone(graceSeconds);
      await sleep(POLL_MS);
    }
  }

  /** Queues the run again: one that was stopped as it is, one that has ended as a new object of the same text. */
  async start(): Promise<void> {
    const found = await this.find();
    if (found === undefined) throw this.#gone();
    if (found.kind.ended(found.object) === undefined) await this.#setActive(true);
    else await this.#recreate(found.object);
  }

  async #setActive(active: boolean): Promise<void> {
    const { namespace, objects } = this.client;
    const workload = await this.#workload();
    const patch = {
      apiVersion: KUEUE,
      kind: "Workload",
      metadata: { name: workload.metadata.name, namespace },
      spec: { active },
    };
    await this.client.call(() =>
      objects.patch(patch, undefined, undefined, undefined, undefined, PatchStrategy.MergePatch),
    );
  }

  async #workload(): Promise<QueuedWorkload> {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = await this.find();
      if (found === undefined) throw this.#gone();
      const own = workloadOf(await readQueue(this.client), found.object.metadata?.uid);
      if (own !== undefined) return own;
      if (Date.now() > deadline) throw notSeen(this.run.name);
      await sleep(POLL_MS);
    }
  }

  /** What was applied is applied again, by whoever applied it, so that the stack's state still tells the truth. */
  async #recreate(object: KubernetesObject): Promise<void> {
    const { objects } = this.client;
    const { manager, applied } = appliedBy(object);
    const uid = object.metadata?.uid;
    await this.client.find(() => objects.delete(applied, undefined, undefined, undefined, undefined, "Foreground"));
    while ((await this.find())?.object.metadata?.uid === uid) await sleep(POLL_MS);
    await this.client.call(() =>
      objects.patch(applied, undefined, undefined, manager, true, PatchStrategy.ServerSideApply),
    );
  }

  /** Not everybody may read nodes: the flavor tells the kind of GPU then. */
  async #gpuOf(pod: V1Pod | undefined): Promise<string | undefined> {
    const name = pod?.spec?.nodeName;
    if (name === undefined) return undefined;
    const node = await this.client.core.readNode({ name }).catch(() => undefined);
    return node?.metadata?.labels?.[`${GPU_RESOURCE}.product`];
  }

  #gone(): UserError {
    return new UserError(
      [
        {
          path: `run ${this.run.name}`,
          value: this.client.namespace,
          reason: "is not in the cluster any more",
          remedy: `npx pulumi refresh --stack ${this.client.stack}, then the same command again`,
        },
      ],
      EXIT.stack,
      "stack",
    );
  }

  #notGone(graceSeconds: number): UserError {
    return machineError({
      path: `run ${this.run.name}`,
      reason: `its pods are still there ${Math.round(graceSeconds + PATIENCE_MS / 1000)} s after they were asked to end`,
      remedy: `kubectl --namespace ${this.client.namespace} get pods --selector ${LABELS.run}=${this.run.name} -o wide shows on which node; a node that is lost keeps its pods until it is removed`,
    });
  }
}

const listSchema = z.array(workloadSchema);

/** Everything in the stack's namespace that Kueue knows; none where there is no Kueue. */
export async function readQueue(client: ClusterClient): Promise<readonly QueuedWorkload[]> {
  const { namespace, objects } = client;
  const list = await client.call(() =>
    objects.list(KUEUE, "Workload", namespace).catch((error: unknown) => {
      if (isMissing(error)) return { items: [] };
      throw error;
    }),
  );
  return listSchema.parse(list.items);
}

function notSeen(run: string): UserError {
  return machineError({
    path: `run ${run}`,
    reason: "Kueue does not take notice of it",
    remedy: "kubectl --namespace kueue-system get pods shows whether Kueue runs; npm run doctor looks at the rest",
  });
}
