import { appendFileSync } from "node:fs";
import { afterAll, afterEach, describe, expect, inject, test, vi } from "vitest";
import { readKubeconfig } from "../../k8s/access.ts";
import type { ClusterLayout } from "../../k8s/layout.ts";
import { runObjectName } from "../../k8s/names.ts";
import { ClusterClient } from "../../scripts/lib/cluster/client.ts";
import { ClusterWorkloads } from "../../scripts/lib/cluster/workloads.ts";
import { freePort } from "../../scripts/lib/free-port.ts";
import { renderCluster } from "../lib/kubernetes.ts";
import { Api } from "./lib/api.ts";
import { printed } from "./lib/kubelet.ts";
import { addPools, gpuPool } from "./lib/nodes.ts";
import { applyAll, isAtWork, POD, podSchema, provideVolumes, TrainingStack } from "./lib/stack.ts";
import { until } from "./lib/until.ts";

/** What goes through the API server to a kubelet: logs and ports. All containers print the same, so one test at a time. */

const api = new Api(inject("cluster"));
afterAll(() => api.close());
afterEach(() => vi.restoreAllMocks());

const config = readKubeconfig({ kubeconfig: inject("kubeconfig") });
const print = (...lines: readonly string[]) => appendFileSync(inject("podLog"), lines.map(printed).join(""));

const RUNS: readonly ClusterLayout["runAs"][] = ["jobset", "trainjob"];

describe.each(RUNS)("the log of a run that is a %s", (runAs) => {
  test("is told by its last lines, while it works and after its end, and is empty while it waits", async () => {
    const name = `last-lines-${runAs}`;
    await addPools(api, [gpuPool(name, 1)]);
    const stack = await TrainingStack.make(api, { name, gpus: 1, runAs });
    const workloadsOf = (run: string) =>
      new ClusterWorkloads(new ClusterClient(config, name, stack.layout.namespace), {
        ...{ name: run, container: runObjectName(run), data: "" },
      });
    await stack.submit("first");
    await stack.running("first");
    await stack.submit("second");
    await stack.workload("second");
    print("step 1", `step 2 of ${name}`, `step 3 of ${name}`);
    const expected = `step 2 of ${name}\nstep 3 of ${name}\n`;
    expect(await workloadsOf("first").lastLines("first", 2)).toBe(expected);
    expect(await workloadsOf("second").lastLines("second", 2)).toBe("");
    await stack.end("first", 0);
    await stack.running("second");
    expect(await workloadsOf("first").lastLines("first", 2)).toBe(expected);
    await stack.end("second", 0);
  });

  test("is followed as it grows, until nobody wants more", async () => {
    const name = `follow-${runAs}`;
    await addPools(api, [gpuPool(name, 1)]);
    const stack = await TrainingStack.make(api, { name, gpus: 1, runAs });
    await stack.submit("grows");
    await stack.running("grows");
    const client = new ClusterClient(config, name, stack.layout.namespace);
    const workloads = new ClusterWorkloads(client, { name: "grows", container: "grows", data: "" });
    const said: string[] = [];
    vi.spyOn(process.stdout, "write").mockImplementation((chunk) => said.push(String(chunk)) > 0);
    const heard = async (line: string) =>
      await until(line, async () => (said.join("").includes(`${line}\n`) ? true : undefined));

    print(`not shown of ${name}`, `before of ${name}`);
    const stop = new AbortController();
    const followed = workloads.follow("grows", 1, stop.signal);
    await heard(`before of ${name}`);
    print(`after of ${name}`);
    await heard(`after of ${name}`);
    stop.abort();
    await followed;
    expect(said.join("")).toBe(`before of ${name}\nafter of ${name}\n`);
    await stack.end("grows", 0);
  });
});

test("a port of a service is reached through its pod", async () => {
  const stack = "reached";
  const { objects, layout } = renderCluster({ stack, settings: { profiles: ["dev"] } });
  await applyAll(api, objects);
  await provideVolumes(api, layout.namespace);
  const ofJupyter = "app.kubernetes.io/name=jupyter";
  await until("Jupyter is at work", async () =>
    (await api.list(POD, layout.namespace, ofJupyter)).some((one) => isAtWork(podSchema.parse(one))) ? true : undefined,
  );
  const workloads = new ClusterWorkloads(new ClusterClient(config, stack, layout.namespace), undefined);
  const service = { container: "jupyter", url: "http://127.0.0.1:8888/healthz" };
  const { url } = await workloads.reach(service, await freePort(0));
  const answer = await fetch(url);
  expect([answer.status, await answer.text()]).toEqual([200, "ok"]);
});
