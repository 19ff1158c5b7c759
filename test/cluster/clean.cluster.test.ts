import { afterAll, describe, expect, inject, test } from "vitest";
import { z } from "zod";
import { readKubeconfig } from "../../k8s/access.ts";
import { runObjectName } from "../../k8s/names.ts";
import { readClusterSite } from "../../scripts/lib/clean/cluster-site.ts";
import { planRemoval } from "../../scripts/lib/clean/removal.ts";
import { ClusterClient } from "../../scripts/lib/cluster/client.ts";
import { ClusterRun } from "../../scripts/lib/cluster/run.ts";
import { renderCluster } from "../lib/kubernetes.ts";
import { Api, ApiError, type KubernetesObject } from "./lib/api.ts";
import { addPools, gpuPool, POOL_LABEL } from "./lib/nodes.ts";
import { addRuntimeClass, applyAll, isAtWork, JOBSET, POD, plain, podSchema, provideVolumes } from "./lib/stack.ts";
import { until } from "./lib/until.ts";

const api = new Api(inject("cluster"));
afterAll(() => api.close());

const CLAIM = { apiVersion: "v1", kind: "PersistentVolumeClaim" };
const VOLUME = { apiVersion: "v1", kind: "PersistentVolume" };
const GRACE_SECONDS = 30;
/** What `pulumi destroy` leaves. */
const KEPT: readonly string[] = ["Namespace", "PersistentVolumeClaim", "PersistentVolume"];

async function stackNamed(stack: string) {
  await addPools(api, [gpuPool(stack, 1)]);
  const pool = { gpu: "L4", nodeLabels: { [POOL_LABEL]: stack }, gpus: 1, cpus: 48, memory: "192GiB" };
  const { objects, layout, plan } = renderCluster({
    stack,
    kubernetes: { queue: { pools: [pool] } },
    settings: { profiles: ["training", "dev", "monitor"] },
  });
  await addRuntimeClass(api);
  await applyAll(api, objects);
  const { namespace } = layout;
  await provideVolumes(api, namespace);
  const client = new ClusterClient(readKubeconfig({ kubeconfig: inject("kubeconfig") }), stack, namespace);
  const name = plan.run?.run ?? "";
  const run = new ClusterRun(client, { name, container: runObjectName(name), data: "" });
  /** Deletes what the state of a stack has, in the order in which Pulumi does. */
  const destroy = async () => {
    for (const { apiVersion, kind, metadata } of [...objects].reverse().filter(({ kind }) => !KEPT.includes(kind)))
      await api.remove({ apiVersion, kind }, metadata.name, metadata.namespace).catch((error: unknown) => {
        if (!(error instanceof ApiError && error.status === 404)) throw error;
      });
  };
  const pods = async () => (await api.list(POD, namespace)).map((one) => podSchema.parse(one));
  return { objects: objects.map(plain), namespace, client, run, name, destroy, pods };
}

type Stack = Awaited<ReturnType<typeof stackNamed>>;

async function untilAtWork({ pods, name }: Stack): Promise<void> {
  await until("the run is at work", async () =>
    (await pods()).some((pod) => isAtWork(pod) && pod.metadata.labels["tunestack.dev/run"] === name) ? true : undefined,
  );
}

const claims = async ({ namespace }: Stack) =>
  (await api.list(CLAIM, namespace)).map(({ metadata }) => metadata.name ?? "").sort();

/** As a job of experiment-runner: of the stack, and known to nobody's state. */
function jobOf({ namespace, objects }: Stack): KubernetesObject {
  const template = z
    .object({ spec: z.object({ jobTemplate: z.object({ spec: z.looseObject({}) }) }) })
    .parse(objects.find(({ kind }) => kind === "CronJob")).spec.jobTemplate;
  const labels = objects.find(({ kind }) => kind === "CronJob")?.metadata.labels ?? {};
  return { apiVersion: "batch/v1", kind: "Job", metadata: { name: "left-over", namespace, labels }, ...template };
}

describe.concurrent("taking a stack in a cluster away", () => {
  test("is refused while its run is at work or waits, and not when it was stopped", async () => {
    const stack = await stackNamed("clean-refused");
    const { client, run, name } = stack;
    const inProgress = async () => (await readClusterSite(client, stack.destroy)).inProgress;
    expect(await until("Kueue sees the run", async () => (await inProgress())[0])).toMatchObject({
      path: `run ${name}`,
      remedy: expect.stringContaining("npm run train-stop -- --stack clean-refused stops"),
    });
    await untilAtWork(stack);
    expect((await inProgress()).map(({ path }) => path)).toEqual([`run ${name}`]);
    await run.stop(GRACE_SECONDS);
    expect(await inProgress()).toEqual([]);

    // From a clone whose state knows nothing of it.
    const site = await readClusterSite(client, async () => undefined);
    await site.remove(planRemoval(site, { checkpoints: false, backups: true }));
    expect((await readClusterSite(client, async () => undefined)).rows).toEqual([]);
    expect(await stack.pods()).toEqual([]);
    expect(await claims(stack)).toEqual(["training-checkpoints"]);
    await stack.destroy();
  });

  test("names what is there, removes it, and leaves checkpoints, snapshots and what a storage class keeps", async () => {
    const stack = await stackNamed("clean-all");
    const { client, run, namespace } = stack;
    await untilAtWork(stack);
    await run.stop(GRACE_SECONDS);
    await api.create(jobOf(stack));
    const logs = `${namespace}-training-logs`;
    await api.merge(VOLUME, logs, undefined, { spec: { persistentVolumeReclaimPolicy: "Retain" } });
    await until("the job has its pod", async () =>
      (await stack.pods()).some(({ metadata }) => metadata.name.startsWith("left-over-")) ? true : undefined,
    );

    const site = await readClusterSite(client, stack.destroy);
    const shown = site.rows.map(([kind, name]) => `${kind} ${name}`);
    const expected = stack.objects
      .filter(({ kind }) => ["Deployment", "DaemonSet", "CronJob", "JobSet", "Secret"].includes(kind))
      .map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    expect([...shown].sort()).toEqual([...expected, "Job left-over"].sort());
    const before = await claims(stack);
    expect(site.volumes.map(({ name }) => name).sort()).toEqual(before);
    for (const { bytes } of site.volumes) expect(bytes).toBe(10 * 2 ** 40);

    const said = await site.remove(planRemoval(site, { checkpoints: false, backups: false }));
    expect(await claims(stack)).toEqual(["training-backup", "training-checkpoints"]);
    expect(await stack.pods()).toEqual([]);
    // A stopped run's Job has no pod to wait for: the control plane takes it after its JobSet, in its own time.
    await until("no Job is left", async () =>
      (await api.list({ apiVersion: "batch/v1", kind: "Job" }, namespace)).length === 0 ? true : undefined,
    );
    expect(await api.list(JOBSET, namespace)).toEqual([]);
    // The class of that one keeps what is in it.
    expect(said).toContain(logs);
    expect(said).not.toContain("training-models-cache");
    expect(await api.get(VOLUME, logs)).toMatchObject({ status: { phase: "Released" } });

    const left = await readClusterSite(client, stack.destroy);
    expect(left.rows).toEqual([]);
    expect(await left.findUnsaved()).toMatchObject({ kind: "unknown" });
    const rest = planRemoval(left, { checkpoints: true, backups: true });
    await (await readClusterSite(client, async () => undefined)).remove(rest);
    expect(await claims(stack)).toEqual([]);
  });
});
