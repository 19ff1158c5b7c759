import { setTimeout as sleep } from "node:timers/promises";
import { quantityToScalar } from "@kubernetes/client-node/dist/util.js";
import { z } from "zod";
import type { Api } from "../../cluster/lib/api.ts";

const CLUSTER_QUEUE = { apiVersion: "kueue.x-k8s.io/v1beta2", kind: "ClusterQueue" };

const queueSchema = z.object({
  status: z
    .object({
      pendingWorkloads: z.int().default(0),
      reservingWorkloads: z.int().default(0),
      admittedWorkloads: z.int().default(0),
      flavorsReservation: z
        .array(z.object({ resources: z.array(z.object({ name: z.string(), total: z.string() })) }))
        .default([]),
    })
    .default({ pendingWorkloads: 0, reservingWorkloads: 0, admittedWorkloads: 0, flavorsReservation: [] }),
});

export interface QueueState {
  readonly pending: number;
  readonly reserving: number;
  readonly admitted: number;
  /** GPUs that are reserved. */
  readonly gpus: number;
}

/** What Kueue says of a queue: few words, however many runs it has. */
export async function queueState(api: Api, name: string): Promise<QueueState> {
  const { status } = queueSchema.parse(await api.get(CLUSTER_QUEUE, name));
  const resources = status.flavorsReservation.flatMap((flavor) => flavor.resources);
  const gpus = resources
    .filter((one) => one.name === "nvidia.com/gpu")
    .reduce((sum, one) => sum + Number(quantityToScalar(one.total)), 0);
  return {
    pending: status.pendingWorkloads,
    reserving: status.reservingWorkloads,
    admitted: status.admittedWorkloads,
    gpus,
  };
}

/** Looks at a queue at intervals until it is as wanted. */
export async function waitForQueue(
  api: Api,
  name: string,
  wanted: (state: QueueState) => boolean,
  { everyMs, limitMs }: { readonly everyMs: number; readonly limitMs: number },
  meanwhile: (state: QueueState) => Promise<void> = async () => undefined,
): Promise<void> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const state = await queueState(api, name);
    if (wanted(state)) return;
    if (Date.now() > deadline) throw new Error(`the queue ${name} is not as wanted in time: ${JSON.stringify(state)}`);
    await meanwhile(state);
    await sleep(everyMs);
  }
}

/** Does something for each number below `count`, several at a time. */
export async function forEach(count: number, body: (index: number) => Promise<unknown>, atOnce = 16): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < count) await body(next++);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, count) }, worker));
}
