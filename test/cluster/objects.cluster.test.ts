import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { objectsText } from "../../k8s/render.ts";
import { type PodTemplate, podTemplates, renderCluster } from "../lib/kubernetes.ts";
import { Api, type KubernetesObject } from "./lib/api.ts";
import { addPools, gpuPool, POOL_LABEL } from "./lib/nodes.ts";
import {
  addRuntimeClass,
  applyAll,
  isAtWork,
  kept,
  POD,
  podSchema,
  provideVolumes,
  tryAsPod,
  warningsOf,
} from "./lib/stack.ts";
import { until } from "./lib/until.ts";
import { current, type Named, nameOf, written } from "./lib/written.ts";

const api = new Api(inject("cluster"));
afterAll(() => api.close());

/** Everything that a stack can have. Of the preferred nodes there are too few for its run, which goes to the others. */
const NAME = "objects";
const kubernetes = {
  run: { nodes: 2, priority: "high" },
  queue: {
    cohort: "research",
    pools: [
      { gpu: "L4", provisioning: "spot", nodeLabels: { "example.invalid/spot": "true" }, gpus: 1 },
      { gpu: "L4", nodeLabels: { [POOL_LABEL]: NAME }, gpus: 4, cpus: 64, memory: "256GiB" },
    ],
  },
  storage: { sharedClass: "shared", singleClass: "single" },
  metricsFrom: "monitoring",
};
const { objects, layout } = renderCluster({ stack: NAME, kubernetes });

/** Objects as the last release rendered them; set to 1 with each release, never in between. */
const RECORDING = "RECORD_RELEASED_OBJECTS";
const RELEASED = fileURLToPath(new URL("released-objects.yaml", import.meta.url));

let applied: Awaited<ReturnType<typeof applyAll>>;

beforeAll(async () => {
  await addPools(api, [gpuPool(NAME, 2)]);
  await addRuntimeClass(api);
  applied = await applyAll(api, objects);
  await provideVolumes(api, layout.namespace);
});

describe("the objects of a stack with every part", () => {
  test("are accepted as they are: no unknown field, no warning, no pod above the level restricted", () => {
    expect(warningsOf(applied)).toEqual([]);
    const kinds = new Set(applied.map(({ kind }) => kind));
    for (const kind of ["JobSet", "Deployment", "DaemonSet", "CronJob", "NetworkPolicy", "ClusterQueue"])
      expect(kinds).toContain(kind);
  });

  test("have pods of the level restricted, also those that nobody has started yet; a namespace takes no other", async () => {
    const asPod = (name: string, template: PodTemplate) => tryAsPod(api, layout.namespace, name, template);
    const templates = objects.flatMap((object) => podTemplates(object));
    expect(templates.length).toBeGreaterThan(5);
    for (const [index, template] of templates.entries()) {
      expect((await asPod(`checked-${index}`, template)).warnings, template.spec.containers[0]?.name).toEqual([]);
      const asRoot = { ...template, spec: { ...template.spec, securityContext: { runAsUser: 0 } } };
      await expect(asPod(`root-${index}`, asRoot)).rejects.toThrow(/violates PodSecurity "restricted:latest"/);
    }
  });

  test("keep what was asked for: the server fills in defaults and changes nothing", () => {
    for (const [index, object] of objects.entries()) {
      expect(applied[index], `${object.kind} ${object.metadata.name}`).toMatchObject(kept(object));
    }
  });

  test("give pods that start where they belong: those of runs and gpu-monitor with the GPUs, others apart", async () => {
    const services = objects.filter(({ kind }) => kind === "Deployment").length;
    const pods = await until(
      "every pod runs",
      async () => {
        const found = (await api.list(POD, layout.namespace)).map((one) => podSchema.parse(one));
        const ready = found.filter(isAtWork);
        // Two of the run, and gpu-monitor on each node with a GPU.
        return ready.length === services + 2 + 2 ? ready : undefined;
      },
      async () =>
        JSON.stringify(
          (await api.list(POD, layout.namespace)).map((one) => [one.metadata.name, one.status]),
          null,
          1,
        ),
    );
    for (const { metadata, spec } of pods) {
      const withGpus = ["qlora-training", "gpu-monitor"].includes(metadata.labels["app.kubernetes.io/name"] ?? "");
      expect(spec.nodeName, metadata.name).toMatch(withGpus ? /^objects-/ : /^cpu-/);
    }
  });

  test("are left as they are by a second apply", async () => {
    const before = await written(api, objects);
    await applyAll(api, objects);
    expect(await written(api, objects)).toEqual(before);
  });

  test("a new image replaces the pods of the services that have it, and nothing of a run that is at work", async () => {
    const before = await identities(objects);
    for (const object of objects) {
      if (object.kind !== "JobSet") await api.apply(withImage(object, "1"));
    }
    expect(await identities(objects)).toEqual(before);
    const image = await until("Jupyter has the new image", async () => {
      const pods = await api.list(POD, layout.namespace, "app.kubernetes.io/name=jupyter");
      return pods.map((one) => podSchema.parse(one)).find(isAtWork)?.spec.containers[0]?.image;
    });
    expect(image).toContain("1".repeat(64));
  });
});

test("objects of the last release become those of this one, and none is made anew", async () => {
  const stack = "upgraded";
  const pool = { gpu: "L4", nodeLabels: { [POOL_LABEL]: stack }, gpus: 1, cpus: 64, memory: "256GiB" };
  const today = renderCluster({ stack, kubernetes: { ...kubernetes, run: {}, queue: { pools: [pool] } } });
  if (process.env[RECORDING] === "1") writeFileSync(RELEASED, objectsText(today.objects));
  const released = parseAllDocuments(readFileSync(RELEASED, "utf8")).map((one) => one.toJS() as KubernetesObject);

  await addPools(api, [gpuPool(stack, 1)]);
  for (const object of released) await api.apply(withImage(object, "2"));
  await provideVolumes(api, today.layout.namespace);
  await until("the run is at work", async () => {
    const [pod] = await runPods(today.layout.namespace);
    return pod;
  });
  const before = await identities(released);
  // A run keeps the image that it was started with: docs/adr/0004-a-run-keeps-its-image.md.
  for (const object of today.objects) await api.apply(withImage(object, object.kind === "JobSet" ? "2" : "3"));
  expect(await identities(released)).toEqual(before);
});

/** An object with another digest in place of the images'. */
function withImage(object: object, digit: string): KubernetesObject {
  return JSON.parse(JSON.stringify(object).replaceAll("0".repeat(64), digit.repeat(64))) as KubernetesObject;
}

/** Which objects these are, and which pods their run has: an object that is made anew is another. */
async function identities(of: readonly Named[]): Promise<Readonly<Record<string, unknown>>> {
  const found = await current(api, of);
  const namespace = found.find(({ kind }) => kind === "Namespace")?.metadata.name ?? "";
  return { ...Object.fromEntries(found.map((one) => [nameOf(one), one.metadata.uid])), pods: await runPods(namespace) };
}

async function runPods(namespace: string): Promise<readonly string[]> {
  const pods = await api.list(POD, namespace, "app.kubernetes.io/name=qlora-training");
  const running = pods.map((one) => podSchema.parse(one)).filter(isAtWork);
  return running.map(({ metadata }) => metadata.uid).sort();
}
