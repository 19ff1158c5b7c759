import * as pulumi from "@pulumi/pulumi";
import { describe, expect, test } from "vitest";
import { violations } from "../../policy/index.ts";
import type { PreviewedResource } from "../../policy/types.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { GkeStack } from "../../stacks/targets/gke/stack.ts";
import { describeGke, type GkeChanges } from "../lib/gke.ts";
import { expectGolden } from "../lib/golden.ts";
import { find, previewed, SECRET_MARK } from "../lib/previewed.ts";
import { type Registration, recordRegistrations } from "../lib/pulumi-mocks.ts";

async function declare(gke: RawSettings = {}, changes: GkeChanges = {}): Promise<readonly Registration[]> {
  const described = describeGke({ gke, ...changes });
  const { registrations } = await recordRegistrations(
    () =>
      new GkeStack("tunestack", {
        ...described,
        projectDir: "/project",
        secret: (file) => pulumi.secret(`value of ${file.split("/").at(-1)}`),
        files: () => new Map([["", Buffer.from("{}\n")]]),
      }),
  );
  return registrations;
}

const ofGoogle = ({ type }: Registration) => type.startsWith("gcp:");

/** Pools of every kind, each with something that no other has. */
const EVERY_KIND = [
  { gpu: "A100-40", gpusPerNode: 2, partition: "3g.20gb", provisioning: "spot", nodes: 3 },
  { gpu: "L4", sharing: { clients: 4 } },
  { gpu: "L4", sharing: { clients: 2, strategy: "mps" } },
  { gpu: "H100", provisioning: "spot", placement: "compact", nodes: 8 },
  { gpu: "H100", provisioning: "spot", confidential: true },
  { gpu: "T4", disk: "64GiB", zones: ["us-central1-b"] },
  { gpu: "none", machineType: "n2d-standard-16", confidential: true },
];

describe("what a stack in a cluster of Google's registers", () => {
  const untouched = declare();

  test("every resource of Google's with exactly its inputs", async () => {
    const registrations = (await untouched).filter(ofGoogle);
    expectGolden(
      "mocks/gke.json",
      registrations.map(({ type, name, parent, inputs, retainOnDelete }) => ({
        type,
        name,
        parent,
        inputs,
        retainOnDelete,
      })),
    );
  });

  test("node pools of every kind with exactly their inputs", async () => {
    const registrations = await declare({ queue: { pools: EVERY_KIND } });
    expectGolden(
      "mocks/gke-pools.json",
      registrations
        .filter(({ name }) => name.startsWith("tunestack-gke-pool-"))
        .map(({ name, inputs }) => ({ name, inputs })),
    );
  });

  test("JobSet before Kueue, after the nodes, and both before the stack's objects", async () => {
    const registrations = await untouched;
    expectGolden(
      "mocks/gke-controllers.json",
      ["tunestack-jobset", "tunestack-kueue"].map((name) => find(registrations, name).inputs),
    );
    expect(find(registrations, "tunestack-jobset").dependencies).toContain("tunestack-gke-services");
    expect(find(registrations, "tunestack-kueue").dependencies).toContain("tunestack-jobset");
    for (const name of ["tunestack-cluster-cluster-queue", "tunestack-cluster-run"])
      expect(find(registrations, name).dependencies).toEqual(
        expect.arrayContaining(["tunestack-kueue", "tunestack-training-backup-identity"]),
      );
  });

  test("every object of the stack by the cluster's own provider", async () => {
    const objects = (await untouched).filter(({ type }) => type.startsWith("kubernetes:"));
    expect(objects.length).toBeGreaterThan(40);
    expect(new Set(objects.map(({ provider }) => provider))).toEqual(new Set(["tunestack-kubernetes"]));
  });

  test("the kubeconfig as a secret, and without a token", async () => {
    const registrations = await untouched;
    const holding = registrations.filter(({ inputs }) => JSON.stringify(inputs).includes("gke-gcloud-auth-plugin"));
    expect(holding.map(({ name }) => name)).toEqual(["tunestack-kubernetes"]);
    const { kubeconfig, clusterIdentifier } = holding[0]?.inputs ?? {};
    expect(kubeconfig).toMatchObject({ [SECRET_MARK]: expect.any(String) });
    expect(clusterIdentifier).toBe("projects/team-ml/locations/us-central1/clusters/tunestack-prod");
    expect(JSON.stringify(kubeconfig)).not.toMatch(/token|password|client-key/);
    expect(JSON.stringify(kubeconfig)).toContain("https://tunestack-gke.gke.example");
  });

  test("a private endpoint, by its own address and authority", async () => {
    const registrations = await declare({ endpoint: "private" });
    const kubeconfig = JSON.stringify(find(registrations, "tunestack-kubernetes").inputs.kubeconfig);
    expect(kubeconfig).toContain("https://10.10.0.2");
    expect(kubeconfig).toContain("PGNlcnRpZmljYXRlPg==");
    expect(find(registrations, "tunestack-gke").inputs).toMatchObject({
      privateClusterConfig: { enablePrivateNodes: true, enablePrivateEndpoint: true },
      controlPlaneEndpointsConfig: { dnsEndpointConfig: { allowExternalTraffic: false } },
      masterAuthorizedNetworksConfig: { gcpPublicCidrsAccessEnabled: false },
    });
  });

  test("a zonal cluster, whose own zone is not named again", async () => {
    const registrations = await declare({ location: "zonal", zones: ["us-central1-b", "us-central1-c"] });
    expect(find(registrations, "tunestack-gke").inputs).toMatchObject({
      location: "us-central1-b",
      nodeLocations: ["us-central1-c"],
    });
    expect(find(registrations, "tunestack-gke-pool-l4-spot").inputs).toMatchObject({
      location: "us-central1-b",
      nodeLocations: ["us-central1-b", "us-central1-c"],
    });
  });

  test("snapshots elsewhere, no volumes in buckets: nobody in Google Cloud but the nodes", async () => {
    const registrations = await declare(
      { storage: { inBuckets: [] } },
      { settings: { backup: { repository: "s3:https://s3.example/snapshots" } } },
    );
    const accounts = registrations.filter(({ type }) => type === "gcp:serviceaccount/account:Account");
    expect(accounts.map(({ name }) => name)).toEqual(["tunestack-gke-nodes"]);
    expect(registrations.some(({ name }) => name === "tunestack-cluster-network-cloud")).toBe(false);
  });

  test("a run, its data and its image leave cluster and nodes as they are", async () => {
    const after = await declare({}, { settings: { training: { run: "another", set: { max_steps: 7 } } } });
    const ofCluster = (one: Registration) => one.type.startsWith("gcp:container/");
    expect(after.filter(ofCluster)).toEqual((await untouched).filter(ofCluster));
  });

  test("what holds data is kept when the stack goes", async () => {
    const kept = (await untouched).filter(({ retainOnDelete }) => retainOnDelete).map(({ name }) => name);
    expect(kept).toEqual(
      expect.arrayContaining([
        "tunestack-bucket",
        "tunestack-bucket-training-models-gguf",
        "tunestack-cluster-namespace",
        "tunestack-cluster-claim-training-checkpoints",
        "tunestack-cluster-volume-training-models-gguf",
      ]),
    );
  });
});

describe("what the rules of policy/ say of it", () => {
  const untouched = declare();

  test.each([
    ["as it is by default", {}],
    ["with nodes of every kind", { queue: { pools: EVERY_KIND } }],
    ["with a private endpoint", { endpoint: "private" }],
  ])("%s: nothing", async (_title, gke) => {
    expect(violations(previewed(await declare(gke)))).toEqual([]);
  });

  type Inputs = Record<string, unknown>;
  const TAMPERED: readonly (readonly [string, string, (inputs: Inputs) => object, string])[] = [
    [
      "the default account",
      "tunestack-gke-services",
      ({ nodeConfig }) => ({ nodeConfig: { ...Object(nodeConfig), serviceAccount: "default" } }),
      "broad-identity",
    ],
    ["a role over the project", "tunestack-gke-nodes-grant", () => ({ role: "roles/editor" }), "broad-identity"],
    [
      "a bucket without uniform access",
      "tunestack-bucket-training-backup",
      () => ({ uniformBucketLevelAccess: false }),
      "open-bucket",
    ],
    ["a firewall open to all", "tunestack-gke-controllers", () => ({ sourceRanges: ["0.0.0.0/0"] }), "public-exposure"],
    ["nodes with public addresses", "tunestack-gke", () => ({ privateClusterConfig: undefined }), "public-exposure"],
    [
      "an API server that everybody reaches",
      "tunestack-gke",
      () => ({ controlPlaneEndpointsConfig: undefined }),
      "public-exposure",
    ],
    [
      "a service with an address outside",
      "tunestack-cluster-jupyter-service",
      ({ spec }) => ({ spec: { ...Object(spec), type: "LoadBalancer" } }),
      "public-exposure",
    ],
    ["a kubeconfig in plain text", "tunestack-kubernetes", () => ({ kubeconfig: "apiVersion: v1" }), "plain-secrets"],
  ];

  test.each(TAMPERED)("%s is refused", async (_title, name, change, rule) => {
    const resources = previewed(await untouched).map((resource): PreviewedResource => {
      if (resource.name !== name) return resource;
      const inputs: PreviewedResource["inputs"] = JSON.parse(
        JSON.stringify({ ...resource.inputs, ...change({ ...resource.inputs }) }),
      );
      return { ...resource, inputs };
    });
    expect(violations(resources).map((found) => [found.rule, found.path.split(":")[0]])).toEqual([[rule, name]]);
  });

  test("GPU nodes without a budget are refused", async () => {
    const resources = previewed(await untouched).filter(({ type }) => type !== "gcp:billing/budget:Budget");
    const found = violations(resources).map(({ rule, path }) => [rule, path]);
    expect(found).toEqual([
      ["gpu-without-budget", "tunestack-gke-pool-l4-spot"],
      ["gpu-without-budget", "tunestack-gke-pool-l4-standard"],
    ]);
  });
});
