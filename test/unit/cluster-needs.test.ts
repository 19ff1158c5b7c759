import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ClusterError, readKubeconfig } from "../../k8s/access.ts";
import { type ClusterFacts, type LiveRun, lookAtCluster } from "../../k8s/look.ts";
import { LABELS } from "../../k8s/names.ts";
import { askedOf, examineCluster, imageOfSameRun, problemsOf } from "../../k8s/needs.ts";
import { runSpecification } from "../../k8s/render-run.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { type Answers, ApiStub } from "../lib/api-stub.ts";
import { type ClusterChanges, renderCluster } from "../lib/kubernetes.ts";

const NODE = { name: "gpu-1", labels: { "nvidia.com/gpu.product": "NVIDIA-L4" }, gpus: 2 };

/** A cluster that has all that a stack needs. */
const WELL: ClusterFacts = {
  context: "lab",
  version: "v1.35.4",
  apis: new Map([
    ["kueue.x-k8s.io", ["v1beta2", "v1beta1"]],
    ["jobset.x-k8s.io", ["v1alpha2"]],
  ]),
  nodes: [NODE],
  autoscaled: false,
  runtimeClasses: ["nvidia"],
  storageClasses: [{ name: "nfs", provisioner: "nfs.csi.k8s.io", isDefault: true }],
  claims: [],
  missingRights: [],
  runs: [],
};

function found(facts: Partial<ClusterFacts>, changes: ClusterChanges = {}) {
  const { plan, layout } = renderCluster(changes);
  const findings = examineCluster(plan, layout, { ...WELL, ...facts });
  return { wrong: problemsOf(findings, "wrong"), doubt: problemsOf(findings, "doubt") };
}

const of = (kubernetes: RawSettings) => ({ kubernetes });

test("a cluster that has everything is well", () => {
  expect(found({})).toEqual({ wrong: [], doubt: [] });
});

describe("what is missing is told with the command that installs it", () => {
  test("Kueue and JobSet, by their pinned releases", () => {
    const { wrong } = found({ apis: new Map() });
    expect(wrong.map(({ value, remedy }) => [value, remedy])).toEqual([
      [
        "JobSet",
        "kubectl --context lab apply --server-side -f https://github.com/kubernetes-sigs/jobset/releases/download/v0.11.1/manifests.yaml",
      ],
      [
        "Kueue",
        "kubectl --context lab apply --server-side -f https://github.com/kubernetes-sigs/kueue/releases/download/v0.16.1/manifests.yaml",
      ],
    ]);
  });

  test("Kubeflow Trainer, where runs are TrainJobs", () => {
    const { wrong } = found({}, of({ runAs: "trainjob" }));
    expect(wrong.map(({ value, remedy }) => [value, remedy])).toEqual([
      [
        "Kubeflow Trainer",
        "kubectl --context lab apply --server-side -k 'https://github.com/kubeflow/trainer.git/manifests/overlays/manager?ref=v2.1.0'",
      ],
    ]);
  });

  test("a Kueue of another release", () => {
    const { wrong } = found({ apis: new Map([...WELL.apis, ["kueue.x-k8s.io", ["v1beta1"]]]) });
    expect(wrong.map(({ reason }) => reason)).toEqual([
      "is of another release: it serves v1beta1 of kueue.x-k8s.io, and not v1beta2",
    ]);
  });

  test("the device plugin, where nodes have GPUs that nobody offers", () => {
    const nodes = [{ name: "bare", labels: { "feature.node.kubernetes.io/pci-10de.present": "true" }, gpus: 0 }];
    const { wrong } = found({ nodes });
    expect(wrong).toHaveLength(1);
    expect(wrong[0]?.value).toBe("bare");
    expect(wrong[0]?.remedy).toContain("k8s-device-plugin/v0.17.1/deployments/static/nvidia-device-plugin.yml");
  });

  test("nodes with GPUs, where nothing makes them; in doubt where something does, or nobody may look", () => {
    expect(found({ nodes: [] }).wrong.map(({ reason }) => reason)).toEqual([
      expect.stringContaining("no node offers nvidia.com/gpu, and nothing makes nodes"),
    ]);
    expect(found({ nodes: [], autoscaled: true })).toMatchObject({ wrong: [], doubt: [{ path: "cluster lab" }] });
    expect(found({ nodes: undefined })).toMatchObject({ wrong: [], doubt: [{ path: "kubernetes.queue.pools" }] });
    expect(found({ nodes: [] }, of({ queue: { pools: [{ gpu: "none" }] } }))).toMatchObject({ wrong: [] });
  });

  test("a pool that no node belongs to", () => {
    const { wrong, doubt } = found({}, of({ queue: { pools: [{ gpu: "L4" }, { gpu: "T4" }] } }));
    expect(wrong).toEqual([]);
    expect(doubt.map(({ reason }) => reason)).toEqual([
      "no node of the pool t4-standard is there (nvidia.com/gpu.product=Tesla-T4); nodes with GPUs have NVIDIA-L4",
    ]);
  });

  test("the runtime class, where gpu-monitor needs it", () => {
    const { wrong } = found({ runtimeClasses: ["gvisor"] });
    expect(wrong).toMatchObject([{ path: "kubernetes.runtimeClass", value: "nvidia" }]);
    expect(wrong[0]?.remedy).toContain('"handler":"nvidia"');
    expect(found({ runtimeClasses: [] }, { settings: { profiles: ["training"] } }).wrong).toEqual([]);
  });

  test("a storage class by its name, and a default one", () => {
    expect(found({}, of({ storage: { sharedClass: "ceph", singleClass: "nfs" } })).wrong).toMatchObject([
      { path: "kubernetes.storage.sharedClass", value: "ceph", reason: expect.stringContaining("which has nfs") },
    ]);
    const storageClasses = [{ name: "nfs", provisioner: "nfs.csi.k8s.io", isDefault: false }];
    expect(found({ storageClasses }).wrong.map(({ path }) => path)).toEqual([
      "kubernetes.storage.sharedClass",
      "kubernetes.storage.singleClass",
    ]);
  });

  test("a file system that several nodes can mount", () => {
    const storageClasses = [{ name: "disks", provisioner: "ebs.csi.aws.com", isDefault: true }];
    expect(found({ storageClasses }).wrong).toMatchObject([{ path: "kubernetes.storage.sharedClass", value: "disks" }]);
    expect(found({ storageClasses }, of({ storage: { spread: "one-node" } })).wrong).toEqual([]);
  });

  test("nothing of volumes that are there already", () => {
    const { plan } = renderCluster();
    const claims = plan.volumes.map(({ name }) => name.replaceAll("_", "-"));
    expect(found({ storageClasses: [], claims }).wrong).toEqual([]);
  });

  test("rights, all at once", () => {
    const missingRights = ["create namespaces", "patch workloads.kueue.x-k8s.io"];
    expect(found({ missingRights }).wrong).toMatchObject([
      {
        reason: "this login may not: create namespaces, patch workloads.kueue.x-k8s.io",
        remedy: expect.stringContaining("kubectl --context lab auth can-i create namespaces"),
      },
    ]);
  });
});

describe("a run that is there", () => {
  const { plan, layout } = renderCluster();
  if (plan.run === undefined) throw new Error("the stack has no run");
  const live: LiveRun = {
    object: "first-run",
    run: "first-run",
    specification: runSpecification(plan.run, layout),
    image: "registry.example.com/ml/training@sha256:1",
    inProgress: true,
    failed: false,
  };

  test("is not replaced while it is in progress, by another or by itself with other settings", () => {
    expect(found({ runs: [live] }).wrong).toEqual([]);
    const message = [{ path: "training", reason: "the run first-run is in progress and would be replaced" }];
    expect(found({ runs: [{ ...live, specification: "other" }] }).wrong).toMatchObject(message);
    expect(
      found({ runs: [live] }, { settings: { training: { preset: "rehearsal", run: "second" } } }).wrong,
    ).toMatchObject(message);
    expect(found({ runs: [{ ...live, specification: "other", inProgress: false }] }).wrong).toEqual([]);
    const training = { preset: "rehearsal", run: "second", replaceRunning: true };
    expect(found({ runs: [live] }, { settings: { training } }).wrong).toEqual([]);
  });

  test("keeps the image that it was started with, unless it failed or is another", () => {
    const image = (changes: Partial<LiveRun>) =>
      imageOfSameRun(plan, layout, { ...WELL, runs: [{ ...live, ...changes }] });
    expect(image({})).toBe(live.image);
    expect(image({ inProgress: false })).toBe(live.image);
    expect(image({ failed: true })).toBeUndefined();
    expect(image({ specification: "other" })).toBeUndefined();
    expect(image({ object: "another" })).toBeUndefined();
  });
});

describe("a look at an API server", () => {
  const { layout, objects } = renderCluster();

  async function look(answers: Answers): Promise<ClusterFacts> {
    const stub = await ApiStub.start(answers);
    const folder = mkdtempSync(join(tmpdir(), "tunestack-look-"));
    try {
      writeFileSync(join(folder, "kubeconfig"), stub.kubeconfig());
      return await lookAtCluster(readKubeconfig({ kubeconfig: join(folder, "kubeconfig") }), askedOf(layout));
    } finally {
      stub.stop();
      rmSync(folder, { recursive: true });
    }
  }

  const items = (...all: readonly object[]) => ({ metadata: {}, items: all });
  const served = (group: string, version: string) => ({
    name: group,
    versions: [{ groupVersion: `${group}/${version}`, version }],
    preferredVersion: { groupVersion: `${group}/${version}`, version },
  });
  const kind = (groupVersion: string, name: string, of: string) => ({
    groupVersion,
    resources: [{ name, kind: of, namespaced: true, singularName: "", verbs: [] }],
  });
  const run = JSON.parse(JSON.stringify(objects.find((object) => object.kind === "JobSet")));
  const full: Readonly<Record<string, object | number>> = {
    "/version": { gitVersion: "v1.35.4" },
    "/apis": { groups: [served("kueue.x-k8s.io", "v1beta2"), served("jobset.x-k8s.io", "v1alpha2")] },
    "/api/v1/nodes": items(
      { metadata: { name: "gpu-1", labels: NODE.labels }, status: { allocatable: { "nvidia.com/gpu": "2" } } },
      { metadata: { name: "cpu-1" }, status: { allocatable: { cpu: "4" } } },
    ),
    "/apis/node.k8s.io/v1/runtimeclasses": items({ metadata: { name: "nvidia" }, handler: "nvidia" }),
    "/apis/storage.k8s.io/v1/storageclasses": items({
      metadata: { name: "nfs", annotations: { "storageclass.kubernetes.io/is-default-class": "true" } },
      provisioner: "nfs.csi.k8s.io",
    }),
    "/api/v1/namespaces/tunestack-team/persistentvolumeclaims": items({ metadata: { name: "training-logs" } }),
    "/apis/kueue.x-k8s.io/v1beta2": kind("kueue.x-k8s.io/v1beta2", "workloads", "Workload"),
    "/apis/jobset.x-k8s.io/v1alpha2": kind("jobset.x-k8s.io/v1alpha2", "jobsets", "JobSet"),
    "/apis/jobset.x-k8s.io/v1alpha2/namespaces/tunestack-team/jobsets": items({
      ...run,
      metadata: { ...run.metadata, uid: "1" },
    }),
    "/apis/kueue.x-k8s.io/v1beta2/namespaces/tunestack-team/workloads": items({
      metadata: { name: "w", ownerReferences: [{ uid: "1", kind: "JobSet", name: "first-run", apiVersion: "x" }] },
      spec: { active: false },
    }),
  };
  /** Everything is allowed but what is named. */
  const answering =
    (answers: Readonly<Record<string, object | number>>, denied = "nothing"): Answers =>
    (path, _method, body) =>
      path.endsWith("/selfsubjectaccessreviews")
        ? { status: { allowed: JSON.stringify(body).includes(`"${denied}"`) === false } }
        : answers[path];

  test("sees what is there, and that a run is stopped", async () => {
    const facts = await look(answering(full));
    expect(facts).toEqual({
      ...WELL,
      apis: new Map([
        ["kueue.x-k8s.io", ["v1beta2"]],
        ["jobset.x-k8s.io", ["v1alpha2"]],
      ]),
      nodes: [NODE, { name: "cpu-1", labels: {}, gpus: 0 }],
      claims: ["training-logs"],
      runs: [
        {
          object: "first-run",
          run: "first-run",
          specification: run.metadata.labels[LABELS.specification],
          image: expect.stringContaining("training@sha256:"),
          inProgress: false,
          failed: false,
        },
      ],
    });
  });

  test("takes a TrainJob and the JobSet that is made from it as one run, with the runtime's image", async () => {
    const rendered = renderCluster({ kubernetes: { runAs: "trainjob" } }).objects;
    const one = (wanted: string) => JSON.parse(JSON.stringify(rendered.find((object) => object.kind === wanted)));
    const [trainJob, runtime] = [one("TrainJob"), one("TrainingRuntime")];
    const trainer = "trainer.kubeflow.org";
    const inNamespace = `/apis/${trainer}/v1alpha1/namespaces/tunestack-team`;
    const { groups } = full["/apis"] as { readonly groups: readonly object[] };
    const answers = {
      ...full,
      "/apis": { groups: [...groups, served(trainer, "v1alpha1")] },
      [`/apis/${trainer}/v1alpha1`]: {
        groupVersion: `${trainer}/v1alpha1`,
        resources: [
          ...kind(`${trainer}/v1alpha1`, "trainjobs", "TrainJob").resources,
          ...kind(`${trainer}/v1alpha1`, "trainingruntimes", "TrainingRuntime").resources,
        ],
      },
      [`${inNamespace}/trainjobs`]: items({ ...trainJob, metadata: { ...trainJob.metadata, uid: "2" } }),
      [`${inNamespace}/trainingruntimes/${runtime.metadata.name}`]: runtime,
    };
    // Kueue's object of the JobSet says that it is stopped, and the TrainJob has none yet.
    const { runs } = await look(answering(answers));
    expect(runs).toMatchObject([
      { object: "first-run", image: expect.stringContaining("training@sha256:"), inProgress: true, failed: false },
    ]);
    const { runs: withoutRuntime } = await look(
      answering({ ...answers, [`${inNamespace}/trainingruntimes/${runtime.metadata.name}`]: 404 }),
    );
    expect(withoutRuntime).toMatchObject([{ object: "first-run", image: undefined }]);
  });

  test("asks for no run where nothing could run one, and for rights one by one", async () => {
    const bare = { ...full, "/apis": { groups: [] } };
    const facts = await look(answering(bare, "clusterqueues"));
    expect(facts.runs).toEqual([]);
    expect(facts.missingRights).toEqual(["create clusterqueues.kueue.x-k8s.io"]);
  });

  test("goes on where this login may not see nodes", async () => {
    expect(await look(answering({ ...full, "/api/v1/nodes": 403 }))).toMatchObject({ nodes: undefined });
  });

  test("says where a login has ended", async () => {
    const refused = await look(answering({ ...full, "/version": 401 })).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(ClusterError);
    expect(refused).toMatchObject({ refusal: "login", problem: { path: "cluster lab" } });
  });
});
