import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, inject, test } from "vitest";
import { z } from "zod";
import { readKubeconfig } from "../../k8s/access.ts";
import type { ClusterLayout } from "../../k8s/layout.ts";
import { runObjectName } from "../../k8s/names.ts";
import { ClusterClient } from "../../scripts/lib/cluster/client.ts";
import { ClusterRun } from "../../scripts/lib/cluster/run.ts";
import type { ContainerState } from "../../scripts/lib/workloads.ts";
import { Api, type Kind, type KubernetesObject } from "./lib/api.ts";
import { addPools, gpuPool } from "./lib/nodes.ts";
import { holds, isAtWork, JOBSET, TRAIN_JOB, TrainingStack, WORKLOAD } from "./lib/stack.ts";
import { until } from "./lib/until.ts";

const api = new Api(inject("cluster"));
afterAll(() => api.close());

const config = readKubeconfig({ kubeconfig: inject("kubeconfig") });
const GRACE_SECONDS = 30;
/** Time in which Kueue would have started what it may start, several times over. */
const QUIET_MS = 3000;
/** Kubernetes writes times down in whole seconds, and the queue goes by them. */
const NEXT_SECOND_MS = 1100;

type RunAs = ClusterLayout["runAs"];

/** What the run is in the cluster, and what tells how it ended. */
const OBJECTS: Readonly<Record<RunAs, Kind>> = { jobset: JOBSET, trainjob: TRAIN_JOB };

/** A stack with quota for one GPU, and two nodes with one each. */
async function stackNamed(part: string, runAs: RunAs): Promise<TrainingStack> {
  const name = `${part}-${runAs}`;
  await addPools(api, [gpuPool(name, 2)]);
  return await TrainingStack.make(api, { name, gpus: 1, runAs });
}

/** A run as the commands of its stack have it. */
function runOf({ name, layout }: TrainingStack, run: string): ClusterRun {
  const client = new ClusterClient(config, name, layout.namespace);
  return new ClusterRun(client, { name: run, container: runObjectName(run), data: "" });
}

async function isActive(stack: TrainingStack, run: string): Promise<boolean> {
  const { metadata } = await stack.workload(run);
  const object = await api.get(WORKLOAD, metadata.name, stack.layout.namespace);
  return z.object({ spec: z.object({ active: z.boolean() }) }).parse(object).spec.active;
}

async function objectOf(stack: TrainingStack, kind: Kind, run: string): Promise<KubernetesObject> {
  const found = await api.get<KubernetesObject>(kind, run, stack.layout.namespace);
  if (found === undefined) throw new Error(`there is no ${kind.kind} ${run}`);
  return found;
}

/** The state of a run once it does not run any more: the Trainer sees the end of a JobSet a moment later than others. */
async function untilNot(run: ClusterRun): Promise<ContainerState> {
  return await until("the run has ended", async () => {
    const state = await run.state();
    return state.running ? undefined : state;
  });
}

/** Ends a run well, and waits until Kueue has its place back. */
async function complete(stack: TrainingStack, run: string): Promise<void> {
  await stack.running(run);
  await stack.end(run);
  expect(await stack.ended(run)).toEqual({ state: "Completed", restarts: 0 });
  await until(`Kueue has the place of ${run}`, async () =>
    holds((await stack.workload(run)).status.conditions, "Finished") ? true : undefined,
  );
}

const RUNS: readonly RunAs[] = ["jobset", "trainjob"];

describe.concurrent.each(RUNS)("the commands of a stack in a cluster, on a run that is a %s,", (runAs) => {
  test("stop a run for good: its place goes to the next, and it waits until it is started", async () => {
    const stack = await stackNamed("stopping", runAs);
    const held = runOf(stack, "held");
    await stack.submit("held");
    const [before] = await stack.running("held");
    expect(await held.state()).toMatchObject({
      ...{ exists: true, running: true, reachable: true, health: "healthy", exitCode: undefined, waitsFor: undefined },
      machine: `${before?.spec.nodeName} (NVIDIA-L4)`,
    });
    await stack.submit("next");

    await held.stop(GRACE_SECONDS);
    expect(await isActive(stack, "held")).toBe(false);
    expect((await stack.pods("held")).filter(isAtWork)).toEqual([]);
    expect(await held.state()).toMatchObject({ exists: true, running: false, reachable: false, health: "stopped" });

    await complete(stack, "next");
    // There is room now, and nothing else that wants it.
    await sleep(QUIET_MS);
    expect(await stack.pods("held")).toEqual([]);
    expect(await held.state()).toMatchObject({ running: false, health: "stopped" });

    await held.start();
    const [after] = await stack.running("held");
    expect(await isActive(stack, "held")).toBe(true);
    expect(after?.metadata.uid).not.toBe(before?.metadata.uid);
    // The same command on the same volumes: that is how a run goes on.
    expect(after?.spec.containers[0]?.args).toEqual(before?.spec.containers[0]?.args);
    expect(after?.spec.volumes).toEqual(before?.spec.volumes);
    expect(await held.state()).toMatchObject({ running: true, reachable: true, health: "healthy" });
    await complete(stack, "held");
    expect(await held.state()).toMatchObject({ running: false, health: "exited (0)", exitCode: 0 });
  });

  test("say where a run stands in the queue; one that is stopped there lets the others go before it", async () => {
    const stack = await stackNamed("waiting", runAs);
    await stack.submit("first");
    await stack.running("first");
    await stack.submit("second");
    await stack.workload("second");
    await sleep(NEXT_SECOND_MS);
    // By name it would come before the second.
    await stack.submit("another");
    const [second, another] = [runOf(stack, "second"), runOf(stack, "another")];
    const waits = async (run: ClusterRun, position: string) =>
      await until(
        `it waits at ${position}`,
        async () => {
          const { health, running, waitsFor } = await run.state();
          const told = waitsFor?.startsWith(`waits in the queue, position ${position}; `) === true;
          return told && running && health === "queued" ? waitsFor : undefined;
        },
        async () => JSON.stringify(await run.state()),
      );
    expect(await waits(another, "2 of 2")).toMatch(/quota/);
    expect(await waits(second, "1 of 2")).toMatch(/quota/);

    await second.stop(GRACE_SECONDS);
    expect(await second.state()).toMatchObject({ running: false, health: "stopped", waitsFor: undefined });
    await waits(another, "1 of 1");
    await complete(stack, "first");
    await complete(stack, "another");
    expect(await stack.pods("second")).toEqual([]);
    await second.start();
    await complete(stack, "second");
  });

  test("start a run that has ended as a new object of what was applied", async () => {
    const stack = await stackNamed("ended", runAs);
    const run = runOf(stack, "again");
    await stack.submit("again");
    await stack.running("again");
    const before = await objectOf(stack, OBJECTS[runAs], "again");
    const workload = (await stack.workload("again")).metadata.name;
    await stack.end("again", 2);
    expect(await stack.ended("again")).toEqual({ state: "Failed", restarts: 0 });
    const ended = { running: false, reachable: false, health: "exited (2)", exitCode: 2 };
    expect(await untilNot(run)).toMatchObject(ended);

    await run.start();
    await stack.running("again");
    const after = await objectOf(stack, OBJECTS[runAs], "again");
    expect(after.metadata.uid).not.toBe(before.metadata.uid);
    expect(after.metadata.labels).toEqual(before.metadata.labels);
    // Nothing of what Kueue wrote into the first is left: it names its own object in the pods.
    const other = (await stack.workload("again")).metadata.name;
    expect(other).not.toBe(workload);
    expect(after.spec).toEqual(JSON.parse(JSON.stringify(before.spec).replaceAll(workload, other)));
    // Whoever applied the first owns the same of the second, so that their next change meets no conflict.
    const owners = ({ metadata }: KubernetesObject) =>
      metadata.managedFields
        ?.filter(({ operation }) => operation === "Apply")
        .map(({ manager, fieldsV1 }) => [manager, fieldsV1]);
    expect(owners(after)).toEqual(owners(before));
    expect(await run.state()).toMatchObject({ running: true, reachable: true, health: "healthy", exitCode: undefined });
    await complete(stack, "again");
  });

  test("know a run that is not there, and start none in its stead", async () => {
    const gone = runOf(await stackNamed("gone", runAs), "removed");
    expect(await gone.state()).toMatchObject({ exists: false, running: false, health: "missing" });
    await expect(gone.start()).rejects.toMatchObject({
      problems: [{ path: "run removed", reason: "is not in the cluster any more" }],
    });
  });
});
