import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, inject, test } from "vitest";
import { z } from "zod";
import { Api, type KubernetesObject } from "./lib/api.ts";
import { addPools, gpuPool } from "./lib/nodes.ts";
import { holds, isAtWork, type Pod, TrainingStack } from "./lib/stack.ts";
import { until } from "./lib/until.ts";

const api = new Api(inject("cluster"));
afterAll(() => api.close());

const NODE = { apiVersion: "v1", kind: "Node" };
const CLUSTER_QUEUE = { apiVersion: "kueue.x-k8s.io/v1beta2", kind: "ClusterQueue" };

const BUDGET = { apiVersion: "policy/v1", kind: "PodDisruptionBudget" };
/** Name of a run's workload, and of its budget. */
const RUN = "qlora-training";
const budgetSchema = z.object({
  status: z.object({ conditions: z.array(z.object({ reason: z.string() })).default([]) }).default({ conditions: [] }),
});

/** Asks for a pod's node to be emptied, as `kubectl drain` does. */
async function evict(stack: TrainingStack, name: string) {
  const { namespace } = stack.layout;
  const eviction = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace } };
  return await api.call("POST", `/api/v1/namespaces/${namespace}/pods/${name}/eviction`, eviction);
}

/** Exit code of a run that lost another of its processes. */
const LOST_ANOTHER = 8;

/** A stack with quota for so many GPUs, and as many nodes as it says with one GPU each. */
async function stackWith(name: string, gpus: number, nodes: number, run = {}): Promise<TrainingStack> {
  await addPools(api, [gpuPool(name, nodes)]);
  return await TrainingStack.make(api, { name, gpus, run });
}

describe.concurrent("a run", () => {
  test("on two nodes is admitted, placed on a node with a GPU each, and ends", async () => {
    const stack = await stackWith("two-nodes", 2, 3, { nodes: 2 });
    await stack.submit("both");
    const pods = await stack.running("both", 2);
    const nodes = pods.map(({ spec }) => spec.nodeName);
    expect(new Set(nodes).size).toBe(2);
    for (const node of nodes) expect(node).toMatch(/^two-nodes-/);

    // Both look for each other where the first one is.
    const [first] = pods.filter(({ metadata }) => metadata.labels["batch.kubernetes.io/job-completion-index"] === "0");
    const endpoints = pods.flatMap(({ spec }) =>
      spec.containers[0]?.args.filter((one) => one.startsWith("--rdzv-endpoint=")),
    );
    expect(new Set(endpoints)).toEqual(
      new Set([`--rdzv-endpoint=${first?.spec.hostname}.${first?.spec.subdomain}:29500`]),
    );

    // A node that is to be emptied waits for the run.
    await until("the disruption budget counts the pods", async () => {
      const budget = await api.get<KubernetesObject & { status?: unknown }>(BUDGET, RUN, stack.layout.namespace);
      const { status } = budgetSchema.parse(budget);
      return status.conditions.some(({ reason }) => reason === "InsufficientPods") ? true : undefined;
    });
    await expect(evict(stack, first?.metadata.name ?? "")).rejects.toMatchObject({ status: 429 });

    await stack.end("both");
    expect(await stack.ended("both")).toEqual({ state: "Completed", restarts: 0 });
    await until("Kueue gives the quota back", async () => {
      const { conditions } = (await stack.workload("both")).status;
      return holds(conditions, "Finished") ? true : undefined;
    });
  });

  test("that makes a mistake fails at once, and is not tried again", async () => {
    const stack = await stackWith("mistake", 1, 1);
    await stack.submit("wrong-settings");
    await stack.running("wrong-settings");
    await stack.end("wrong-settings", 2);
    expect(await stack.ended("wrong-settings")).toEqual({ state: "Failed", restarts: 0 });
    expect((await stack.pods("wrong-settings")).filter(isAtWork)).toEqual([]);
  });

  test("whose process is killed is tried again, and ends once", async () => {
    const stack = await stackWith("killed", 1, 1);
    await stack.submit("again");
    const [before] = await stack.running("again");
    await stack.end("again", 137);
    const after = await until("another pod runs", async () => {
      const [pod] = (await stack.pods("again")).filter(isAtWork);
      return pod !== undefined && pod.metadata.uid !== before?.metadata.uid ? pod : undefined;
    });
    expect(after.spec.containers[0]?.args).toEqual(before?.spec.containers[0]?.args);
    await stack.end("again");
    expect(await stack.ended("again")).toMatchObject({ state: "Completed" });
  });
});

describe.concurrent("the queue", () => {
  test("admits no more than the quota, though there are nodes, and every run ends once", async () => {
    const stack = await stackWith("quota", 2, 5);
    const runs = ["one", "two", "three", "four", "five"];
    for (const run of runs) await stack.submit(run);
    const most = { pods: 0, reserved: 0 };
    const ended = new Set<string>();
    while (ended.size < runs.length) {
      const pods = (await stack.pods()).filter(isAtWork);
      const reserved = await reservedGpus(stack);
      most.pods = Math.max(most.pods, pods.length);
      most.reserved = Math.max(most.reserved, reserved);
      expect(pods.length).toBeLessThanOrEqual(2);
      expect(reserved).toBeLessThanOrEqual(2);
      const [oldest] = pods;
      const run = oldest?.metadata.labels["jobset.sigs.k8s.io/jobset-name"];
      if (pods.length === 2 || ended.size === runs.length - 1) {
        if (run !== undefined) {
          await stack.end(run);
          expect(await stack.ended(run)).toEqual({ state: "Completed", restarts: 0 });
          expect(ended.has(run)).toBe(false);
          ended.add(run);
        }
      }
      await sleep(100);
    }
    // As many as may run did run at once.
    expect(most).toEqual({ pods: 2, reserved: 2 });
  });

  test("gives a higher priority the place of a lower one, which waits and then goes on where it was", async () => {
    const stack = await stackWith("priority", 1, 2);
    await stack.submit("patient", { priority: "low" });
    const [before] = await stack.running("patient");
    await stack.submit("urgent", { priority: "high" });
    await stack.running("urgent");
    expect((await stack.pods("patient")).filter(isAtWork)).toEqual([]);
    const waiting = await stack.workload("patient");
    expect(waiting.status.admission).toBeUndefined();
    expect(waiting.status.conditions).toContainEqual(expect.objectContaining({ type: "Evicted", reason: "Preempted" }));

    await stack.end("urgent");
    expect(await stack.ended("urgent")).toEqual({ state: "Completed", restarts: 0 });
    const [after] = await stack.running("patient");
    expect(after?.metadata.uid).not.toBe(before?.metadata.uid);
    // The same command on the same volumes: that is how a run goes on.
    expect(after?.spec.containers[0]?.args).toEqual(before?.spec.containers[0]?.args);
    expect(after?.spec.volumes).toEqual(before?.spec.volumes);
    await stack.end("patient");
    expect(await stack.ended("patient")).toEqual({ state: "Completed", restarts: 0 });
  });

  test("starts a run whose node is lost on another, and it ends exactly once", async () => {
    const stack = await stackWith("lost", 1, 2);
    await stack.submit("survivor");
    const [before] = await stack.running("survivor");
    await api.remove(NODE, before?.spec.nodeName ?? "");
    const after = await until("another pod runs", async () => {
      const [pod] = (await stack.pods("survivor")).filter(isAtWork);
      return pod !== undefined && pod.metadata.uid !== before?.metadata.uid ? pod : undefined;
    });
    expect(after.spec.nodeName).not.toBe(before?.spec.nodeName);
    await stack.end("survivor");
    // A lost node is none of the run's tries.
    expect(await stack.ended("survivor")).toEqual({ state: "Completed", restarts: 0 });
    const succeeded = (await stack.pods("survivor")).filter(({ status }) => status.phase === "Succeeded");
    expect(succeeded).toHaveLength(1);
  });

  test("starts a run of two nodes again whole when one of them is lost, as often as it happens", async () => {
    const stack = await stackWith("halved", 2, 4, { nodes: 2 });
    await stack.submit("pair");
    const others = async (known: readonly Pod[]) =>
      await until("two other pods run", async () => {
        const pods = (await stack.pods("pair")).filter(isAtWork);
        const isNew = ({ metadata }: Pod) => !known.some((one) => one.metadata.uid === metadata.uid);
        return pods.length === 2 && pods.every(isNew) ? pods : undefined;
      });
    const [gone, left] = await stack.running("pair", 2);
    await api.remove(NODE, gone?.spec.nodeName ?? "");
    await stack.endPod(left?.metadata.name ?? "", LOST_ANOTHER);
    const pods = await others([gone, left].filter((pod) => pod !== undefined));
    // Four pods are more than a run has tries that dies by itself. Kubernetes waits twice as long before each, up to 10 min.
    await stack.end("pair", LOST_ANOTHER);
    await others(pods);
    await stack.end("pair");
    expect(await stack.ended("pair")).toEqual({ state: "Completed", restarts: 0 });
    const succeeded = (await stack.pods("pair")).filter(({ status }) => status.phase === "Succeeded");
    expect(succeeded).toHaveLength(2);
  });
});

const usageSchema = z.object({
  status: z.object({
    flavorsReservation: z
      .array(z.object({ resources: z.array(z.object({ name: z.string(), total: z.string() })) }))
      .default([]),
  }),
});

async function reservedGpus(stack: TrainingStack): Promise<number> {
  const { status } = usageSchema.parse(await api.get(CLUSTER_QUEUE, `${stack.layout.namespace}-runs`));
  const resources = status.flavorsReservation.flatMap((flavor) => flavor.resources);
  return resources.filter(({ name }) => name === "nvidia.com/gpu").reduce((sum, { total }) => sum + Number(total), 0);
}
