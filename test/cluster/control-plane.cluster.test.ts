import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { z } from "zod";
import { Api, type KubernetesObject } from "./lib/api.ts";
import { addPools, gpuPool, POOL_LABEL } from "./lib/nodes.ts";
import { AFTER_ANNOTATION, EXIT_ANNOTATION } from "./lib/stages.ts";
import { until } from "./lib/until.ts";

/** What the other files rest on: that the control plane refuses, queues, places and ends as a cluster does. */

const SPACE = "by-hand";
const api = new Api(inject("cluster"));
afterAll(() => api.close());

const KUEUE = "kueue.x-k8s.io/v1beta2";
const JOBSET = { apiVersion: "jobset.x-k8s.io/v1alpha2", kind: "JobSet" };
const POD = { apiVersion: "v1", kind: "Pod" };

const jobSetSchema = z.object({ status: z.object({ terminalState: z.string() }) });
const podSchema = z.object({ spec: z.object({ nodeName: z.string() }) });

const restricted = {
  runAsNonRoot: true,
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  seccompProfile: { type: "RuntimeDefault" },
};

function pod(securityContext: object) {
  const resources = { limits: { cpu: "1", memory: "1Gi", "nvidia.com/gpu": "1" } };
  return {
    restartPolicy: "Never",
    containers: [{ name: "main", image: "example.invalid/image", resources, securityContext }],
  };
}

beforeAll(async () => {
  await addPools(api, [gpuPool(SPACE, 2)]);
  const objects: readonly KubernetesObject[] = [
    {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: SPACE, labels: { "pod-security.kubernetes.io/enforce": "restricted" } },
    },
    {
      apiVersion: KUEUE,
      kind: "ResourceFlavor",
      metadata: { name: SPACE },
      spec: {
        nodeLabels: { [POOL_LABEL]: SPACE },
        tolerations: [{ key: "nvidia.com/gpu", operator: "Exists" }],
      },
    },
    {
      apiVersion: KUEUE,
      kind: "ClusterQueue",
      metadata: { name: SPACE },
      spec: {
        namespaceSelector: {},
        resourceGroups: [
          {
            coveredResources: ["cpu", "memory", "nvidia.com/gpu"],
            flavors: [
              {
                name: SPACE,
                resources: [
                  { name: "cpu", nominalQuota: "8" },
                  { name: "memory", nominalQuota: "8Gi" },
                  { name: "nvidia.com/gpu", nominalQuota: "1" },
                ],
              },
            ],
          },
        ],
      },
    },
    {
      apiVersion: KUEUE,
      kind: "LocalQueue",
      metadata: { name: "runs", namespace: SPACE },
      spec: { clusterQueue: SPACE },
    },
  ];
  for (const object of objects) expect((await api.apply(object)).warnings).toEqual([]);
});

test("a pod above the namespace's security level is refused", async () => {
  const spec = pod({ ...restricted, runAsNonRoot: false });
  await expect(api.apply({ ...POD, metadata: { name: "root", namespace: SPACE }, spec })).rejects.toThrow(
    /violates PodSecurity "restricted:latest": runAsNonRoot != true/,
  );
});

test("a field that the API does not know is refused", async () => {
  const spec = { ...pod(restricted), restartPolice: "Never" };
  await expect(api.apply({ ...POD, metadata: { name: "typo", namespace: SPACE }, spec })).rejects.toThrow(
    /field not declared in schema/,
  );
});

test("what JobSet and Kueue would refuse is refused by their webhooks", async () => {
  const wrong = {
    ...JOBSET,
    metadata: { name: "wrong", namespace: SPACE },
    spec: { replicatedJobs: [job("x".repeat(60))] },
  };
  await expect(api.apply(wrong)).rejects.toThrow(/vjobset|admission webhook/);
  const queue = { apiVersion: KUEUE, kind: "LocalQueue", metadata: { name: "runs", namespace: SPACE } };
  await expect(api.apply({ ...queue, spec: { clusterQueue: "another" } })).rejects.toThrow(/immutable/);
});

test("a JobSet waits for quota, is placed on a node with GPUs, and ends", async () => {
  const labels = { "kueue.x-k8s.io/queue-name": "runs" };
  for (const name of ["first", "second"]) {
    await api.apply({
      ...JOBSET,
      metadata: { name, namespace: SPACE, labels },
      spec: { replicatedJobs: [job("node")] },
    });
  }
  const places = new Set<string>();
  await until("both JobSets end", async () => {
    const pods = await api.list(POD, SPACE);
    const placed = pods.flatMap((one) => podSchema.safeParse(one).data?.spec.nodeName ?? []);
    for (const node of placed) places.add(node);
    const jobSets = await api.list(JOBSET, SPACE);
    const ended = jobSets.filter((one) => jobSetSchema.safeParse(one).data?.status.terminalState === "Completed");
    return ended.length === 2 ? true : undefined;
  });
  for (const node of places) expect(node).toMatch(/^by-hand-/);
  expect(places.size).toBeGreaterThan(0);
});

function job(name: string) {
  const annotations = { [EXIT_ANNOTATION]: "0", [AFTER_ANNOTATION]: "1s" };
  return { name, template: { spec: { template: { metadata: { annotations }, spec: pod(restricted) } } } };
}
