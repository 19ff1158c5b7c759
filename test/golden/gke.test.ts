import { describe, expect, test } from "vitest";
import type { KubernetesObject } from "../../k8s/objects.ts";
import { renderStack } from "../../k8s/render.ts";
import { renderKubeconfig } from "../../stacks/targets/gke/render-kubeconfig.ts";
import { describeGke, type GkeChanges } from "../lib/gke.ts";
import { expectGolden } from "../lib/golden.ts";
import { RESOLVED } from "../lib/kubernetes.ts";

function objects(changes: GkeChanges = {}): readonly KubernetesObject[] {
  const { plan, layout } = describeGke(changes);
  return renderStack(plan, layout, RESOLVED).map(({ object }) => object);
}

describe("what a stack has in a cluster of Google's, and in no other", () => {
  const all = objects();

  test.each([
    ["volumes", ["StorageClass", "PersistentVolume", "PersistentVolumeClaim"]],
    ["queue", ["ResourceFlavor", "ClusterQueue"]],
    ["accounts", ["ServiceAccount"]],
  ])("%s", (name, kinds) => {
    expectGolden(
      `gke/${name}.yaml`,
      all.filter(({ kind }) => kinds.includes(kind)),
    );
  });

  test("a way to the metadata server for those alone that are somebody in Google Cloud", () => {
    const policy = all.find(({ kind, metadata }) => kind === "NetworkPolicy" && metadata.name === "cloud");
    expectGolden("gke/network.yaml", [policy]);
    const pods = JSON.stringify(all.filter(({ kind }) => kind !== "NetworkPolicy"));
    const label = '"reaches.tunestack.dev/cloud":"true"';
    // Jupyter, and the two jobs of the backup.
    expect(pods.split(label).length - 1).toBe(3);
    const run = all.find(({ kind }) => kind === "JobSet");
    expect(JSON.stringify(run)).not.toContain(label);
  });

  test("buckets beside those containers alone that mount one", () => {
    const marked = all.filter((object) => JSON.stringify(object).includes("gke-gcsfuse/volumes"));
    expect(marked.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual([
      "Deployment jupyter",
      "CronJob training-backup-snapshot",
      "CronJob training-backup-drill",
    ]);
  });

  test("no monitor, since no container sees a GPU that it does not take", () => {
    const { plan } = describeGke();
    expect(plan.leftOut.map(({ service }) => service)).toEqual(["gpu-monitor"]);
    expect(all.some(({ kind }) => kind === "DaemonSet")).toBe(false);
  });
});

test("a run on several nodes on spot has the time to save that Google gives", () => {
  const run = objects({ gke: { run: { nodes: 2 } } }).find(({ kind }) => kind === "JobSet");
  expect(JSON.stringify(run)).toContain('"terminationGracePeriodSeconds":15');
  expect(JSON.stringify(run)).toContain("--nnodes=2");
});

test("a kubeconfig, with an authority and without", () => {
  const context = "gke_team-ml_us-central1_tunestack-prod";
  const texts = [
    renderKubeconfig(context, { host: "gke-1.us-central1.gke.goog", authority: undefined }),
    renderKubeconfig(context, { host: "10.10.0.2", authority: "PGNlcnRpZmljYXRlPg==" }),
  ];
  expectGolden(
    "gke/kubeconfig.json",
    texts.map((text) => JSON.parse(text)),
  );
});
