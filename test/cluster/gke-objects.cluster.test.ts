import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { z } from "zod";
import type { KubernetesObject as RenderedObject } from "../../k8s/objects.ts";
import { renderStack } from "../../k8s/render.ts";
import { SECRET_NAMES } from "../../stacks/settings/load.ts";
import { PROFILES } from "../../stacks/settings/schema.ts";
import { RUNS_TAINT } from "../../stacks/targets/gke/layout.ts";
import { describeGke } from "../lib/gke.ts";
import { type PodTemplate, podTemplates, RESOLVED } from "../lib/kubernetes.ts";
import { QUEUE } from "../lib/rendered.ts";
import { Api } from "./lib/api.ts";
import { addPools, gpuPool } from "./lib/nodes.ts";
import { applyAll, isAtWork, kept, POD, plain, podSchema, provideVolumes, tryAsPod, warningsOf } from "./lib/stack.ts";
import { until } from "./lib/until.ts";
import { written } from "./lib/written.ts";

/**
 * What a stack has in a cluster of Google's. All of it is of kinds that every cluster has, or that JobSet and Kueue bring:
 * only drivers, annotations and labels are Google's own, and who acts on them is not here. Nobody mounts a bucket, makes a
 * Filestore volume or puts Cloud Storage FUSE beside a container.
 */

const api = new Api(inject("cluster"));
afterAll(() => api.close());

const NAME = "gke-objects";
const { plan, layout } = describeGke({
  stack: NAME,
  secrets: SECRET_NAMES,
  settings: { profiles: PROFILES, experiments: { repository: QUEUE } },
  gke: {
    run: { nodes: 2, priority: "high" },
    queue: {
      cohort: "google",
      pools: [
        { gpu: "L4", provisioning: "spot", nodes: 1 },
        { gpu: "L4", provisioning: "standard", nodes: 2 },
      ],
    },
    storage: { inBuckets: ["training_models_cache", "training_models_gguf", "training_backup"] },
    metricsFrom: "monitoring",
  },
});
const objects = renderStack(plan, layout, RESOLVED).map(({ object }) => object);
const SPOT = "l4-spot";
const STANDARD = "l4-standard";

let applied: Awaited<ReturnType<typeof applyAll>>;

beforeAll(async () => {
  await addPools(
    api,
    [gpuPool(SPOT, 1), gpuPool(STANDARD, 2)].map((pool) => ({ ...pool, taints: [...pool.taints, RUNS_TAINT] })),
  );
  applied = await applyAll(api, objects);
  await provideVolumes(api, layout.namespace);
});

const ofKind = (kind: string): readonly RenderedObject[] => objects.filter((one) => one.kind === kind);

describe("the objects of a stack in a cluster of Google's", () => {
  test("are accepted as they are: no unknown field, no warning, no pod above the level restricted", () => {
    expect(warningsOf(applied)).toEqual([]);
    const kinds = new Set(applied.map(({ kind }) => kind));
    for (const kind of ["StorageClass", "PersistentVolume", "JobSet", "Deployment", "CronJob", "ClusterQueue"])
      expect(kinds).toContain(kind);
  });

  test("keep what was asked for: the server fills in defaults and changes nothing", () => {
    for (const [index, object] of objects.entries()) {
      const text = JSON.stringify(kept(object));
      // Not written back is a volume's class where it is none; of a claim it is, since a claim without the field has the default one.
      const asked = object.kind === "PersistentVolume" ? text.replace('"storageClassName":"",', "") : text;
      expect(applied[index], `${object.kind} ${object.metadata.name}`).toMatchObject(JSON.parse(asked));
    }
  });

  test("have pods of the level restricted, buckets and all; their namespace takes no other", async () => {
    const asPod = (name: string, template: PodTemplate) => tryAsPod(api, layout.namespace, name, template);
    const templates = objects.flatMap((object) => podTemplates(object));
    expect(templates.filter((one) => JSON.stringify(one).includes("gke-gcsfuse/volumes")).length).toBeGreaterThan(2);
    for (const [index, template] of templates.entries()) {
      expect((await asPod(`checked-${index}`, template)).warnings, template.spec.containers[0]?.name).toEqual([]);
      const onNode = { ...template, spec: { ...template.spec, hostNetwork: true } };
      await expect(asPod(`host-${index}`, onNode)).rejects.toThrow(/violates PodSecurity "restricted:latest"/);
    }
  });

  test("with a field that there is not are refused, the driver of a bucket's volume among them", async () => {
    const [volume] = ofKind("PersistentVolume").map(plain);
    if (volume === undefined) throw new Error("no volume is in a bucket");
    const wrong = JSON.parse(JSON.stringify(volume).replace('"volumeHandle"', '"volumeHandel"'));
    await expect(api.apply(wrong, "tunestack", true)).rejects.toThrow(/volumeHandel/);
  });

  test("give each bucket to the claim that is meant to have it", async () => {
    const bound = z.object({ spec: z.object({ volumeName: z.string() }), status: z.object({ phase: z.string() }) });
    for (const volume of ofKind("PersistentVolume").map(plain)) {
      const { claimRef } = z
        .object({ spec: z.object({ claimRef: z.object({ name: z.string() }) }) })
        .parse(volume).spec;
      const claim = await until(`${claimRef.name} is bound`, async () => {
        const found = await api.get(
          { apiVersion: "v1", kind: "PersistentVolumeClaim" },
          claimRef.name,
          layout.namespace,
        );
        const read = bound.safeParse(found).data;
        return read?.status.phase === "Bound" ? read : undefined;
      });
      expect(claim.spec.volumeName).toBe(volume.metadata.name);
    }
  });

  test("give a run the nodes of a pool that has room for all of it, and the services those of none", async () => {
    const services = ofKind("Deployment").length;
    const pods = await until(
      "every pod runs",
      async () => {
        const found = (await api.list(POD, layout.namespace)).map((one) => podSchema.parse(one)).filter(isAtWork);
        return found.length === services + 2 ? found : undefined;
      },
      async () =>
        JSON.stringify((await api.list(POD, layout.namespace)).map(({ metadata, status }) => [metadata, status])),
    );
    for (const { metadata, spec } of pods) {
      const isRun = metadata.labels["app.kubernetes.io/name"] === "qlora-training";
      expect(spec.nodeName, metadata.name).toMatch(isRun ? new RegExp(`^${STANDARD}-`) : /^cpu-/);
    }
  });

  test("are left as they are by a second apply", async () => {
    const before = await written(api, objects);
    await applyAll(api, objects);
    expect(await written(api, objects)).toEqual(before);
  });
});
