import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { LABELS } from "../../k8s/names.ts";
import type { KubernetesObject } from "../../k8s/objects.ts";
import { objectsText } from "../../k8s/render.ts";
import { expectGolden } from "../lib/golden.ts";
import { podTemplates, renderCluster } from "../lib/kubernetes.ts";

/** A team's cluster: two kinds of GPU, spot before standard, and all that can be set. */
const TEAM = {
  runAs: "jobset",
  run: { nodes: 2, gpus: 1, priority: "high" },
  queue: {
    cohort: "research",
    pools: [
      {
        gpu: "L4",
        provisioning: "spot",
        gpus: 4,
        cpus: 32,
        memory: "128GiB",
        nodeLabels: { "nvidia.com/gpu.product": "NVIDIA-L4", "example.com/spot": "true" },
        taints: ["example.com/spot"],
      },
      { gpu: "L4", provisioning: "standard", gpus: 2, cpus: 16, memory: "64GiB" },
      { gpu: "A100-40", nodeLabels: { "example.com/pool": "a100" } },
    ],
  },
  storage: { sharedClass: "nfs", singleClass: "disk" },
  pullSecret: "registry-login",
  metricsFrom: "monitoring",
};

const KINDS: Readonly<Record<string, string>> = {
  NetworkPolicy: "network",
  ResourceFlavor: "queue",
  ClusterQueue: "queue",
  LocalQueue: "queue",
  WorkloadPriorityClass: "queue",
};
const PARTS = ["Deployment", "DaemonSet", "CronJob", "Service", "PodDisruptionBudget", "JobSet"];

/** The golden file of an object: one for each workload, and for what the stack has once. */
function fileOf({ kind, metadata }: KubernetesObject): string {
  if (PARTS.includes(kind)) return metadata.labels[LABELS.name] ?? "foundation";
  return KINDS[kind] ?? "foundation";
}

/** A hash changes with each setting of a run, which the rest of the file shows. */
function withoutHashes(object: KubernetesObject): unknown {
  return JSON.parse(
    JSON.stringify(object, (key, value: unknown) => (key === LABELS.specification ? "<hash>" : value)),
  );
}

describe("the objects of a stack in a team's cluster", () => {
  const { objects } = renderCluster({ kubernetes: TEAM });

  test.each([...new Set(objects.map(fileOf))])("%s", (name) => {
    expectGolden(
      `kubernetes/${name}.yaml`,
      objects.filter((object) => fileOf(object) === name).map(withoutHashes),
    );
  });
});

test("Jupyter asks for no GPU, and goes to no node that is kept for those who do", () => {
  const { objects } = renderCluster({ kubernetes: TEAM });
  const [pod] = objects.filter(({ kind, metadata }) => kind === "Deployment" && metadata.name === "jupyter").flatMap(podTemplates);
  expect(pod?.spec.containers[0]?.env).toContainEqual({ name: "NVIDIA_VISIBLE_DEVICES", value: "void" });
  expect(JSON.stringify(pod)).not.toContain("nvidia.com/gpu");
  for (const key of ["tolerations", "affinity", "nodeSelector", "runtimeClassName"])
    expect(pod?.spec).not.toHaveProperty(key);
});

test("a run alone on one node, on CPUs", () => {
  const { objects } = renderCluster({
    kubernetes: { queue: { pools: [{ gpu: "none" }] }, storage: { spread: "one-node" } },
    settings: { profiles: ["training"] },
  });
  expectGolden(
    "kubernetes/on-cpus.yaml",
    objects.filter(({ kind }) => ["JobSet", "ClusterQueue", "ResourceFlavor", "PersistentVolumeClaim"].includes(kind)).map(withoutHashes),
  );
});

test("a run as a TrainJob of Kubeflow Trainer", () => {
  const { objects } = renderCluster({
    kubernetes: { runAs: "trainjob", queue: { pools: [{ gpu: "L4" }] } },
    settings: { profiles: ["training"] },
  });
  const [runtime, job] = objects.filter(({ kind }) => kind === "TrainingRuntime" || kind === "TrainJob");
  const name = runtime?.metadata.name ?? "";
  expect(name).toMatch(/^first-run-[0-9a-f]{8}$/);
  const text = JSON.stringify([runtime, job].map((one) => one && withoutHashes(one))).replaceAll(name, "first-run-<hash>");
  expectGolden("kubernetes/train-job.yaml", JSON.parse(text));
});

test("Kubeflow Trainer makes the pods of a JobSet, its container by another name", () => {
  const specOf = (runAs: string, kind: string) => {
    const { objects } = renderCluster({ kubernetes: { runAs }, settings: { profiles: ["training"] } });
    const object = objects.find((one) => one.kind === kind);
    return object?.kind === "TrainingRuntime" ? object.spec.template.spec : object?.kind === "JobSet" && object.spec;
  };
  const asJobSet = JSON.parse(JSON.stringify(specOf("jobset", "JobSet")), (key, value: unknown) => {
    if (key === "containers") return (value as object[]).map((one) => ({ ...one, name: "node" }));
    return key === "containerName" ? "node" : value;
  }) as { replicatedJobs: [{ template: { metadata: { labels: object } } }] };
  const [job] = asJobSet.replicatedJobs;
  job.template.metadata.labels = {
    ...job.template.metadata.labels,
    "trainer.kubeflow.org/trainjob-ancestor-step": "trainer",
  };
  expect(specOf("trainjob", "TrainingRuntime")).toEqual(asJobSet);
});

test("YAML reads back as the objects that were written", () => {
  const { objects } = renderCluster();
  const read = parseAllDocuments(objectsText(objects)).map((document) => document.toJS() as unknown);
  expect(read).toEqual(JSON.parse(JSON.stringify(objects)));
});
