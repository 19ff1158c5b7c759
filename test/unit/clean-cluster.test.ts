import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readKubeconfig } from "../../k8s/access.ts";
import { notByThisCommand } from "../../scripts/lib/clean/cloud.ts";
import { readClusterSite } from "../../scripts/lib/clean/cluster-site.ts";
import { checkpointProblems } from "../../scripts/lib/clean/refusals.ts";
import { formatRemoval, planRemoval } from "../../scripts/lib/clean/removal.ts";
import { ClusterClient } from "../../scripts/lib/cluster/client.ts";
import { ApiStub } from "../lib/api-stub.ts";
import { gcpInputs, gkeInputs } from "../lib/inputs.ts";

const NAMESPACE = "tunestack-team";
const CORE = `/api/v1/namespaces/${NAMESPACE}`;
const APPS = `/apis/apps/v1/namespaces/${NAMESPACE}`;
const KUEUE = "/apis/kueue.x-k8s.io/v1beta2";

function claim(name: string, room: string): object {
  return {
    metadata: { name },
    spec: { volumeName: `pv-${name}`, resources: { requests: { storage: "1Gi" } } },
    status: { capacity: { storage: room } },
  };
}

const workload = (name: string, active: boolean, conditions: object[] = []) => ({
  metadata: {
    name: `jobset-${name}-12345`,
    creationTimestamp: "2026-11-23T00:00:00Z",
    ownerReferences: [{ uid: name, name }],
  },
  spec: { active },
  status: { conditions },
});

const resource = (kind: string, name: string) => ({ kind, name, namespaced: true });

/** A cluster with Kueue and without JobSet and Kubeflow Trainer. */
const ANSWERS: Readonly<Record<string, object | number>> = {
  "/api/v1": { resources: [resource("Secret", "secrets")] },
  "/apis/apps/v1": { resources: [resource("Deployment", "deployments"), resource("DaemonSet", "daemonsets")] },
  "/apis/batch/v1": { resources: [resource("Job", "jobs"), resource("CronJob", "cronjobs")] },
  [KUEUE]: { resources: [resource("Workload", "workloads")] },
  [`${APPS}/deployments`]: { items: [{ metadata: { name: "jupyter" } }] },
  [`${APPS}/daemonsets`]: { items: [] },
  [`/apis/batch/v1/namespaces/${NAMESPACE}/jobs`]: {
    items: [
      { metadata: { name: "training-backup-1", ownerReferences: [{ kind: "CronJob", name: "training-backup" }] } },
      { metadata: { name: "experiment-a" } },
    ],
  },
  [`/apis/batch/v1/namespaces/${NAMESPACE}/cronjobs`]: { items: [] },
  [`${CORE}/secrets`]: { items: [] },
  [`${CORE}/pods`]: {
    items: [
      { metadata: { name: "saves", labels: { "tunestack.dev/run": "stopped" } }, status: { phase: "Running" } },
      { metadata: { name: "over", labels: { "tunestack.dev/run": "ended" } }, status: { phase: "Failed" } },
    ],
  },
  [`${CORE}/persistentvolumeclaims`]: {
    items: [claim("training-checkpoints", "100Gi"), claim("training-logs", "107374182400"), claim("mine", "1Gi")],
  },
  [`${KUEUE}/namespaces/${NAMESPACE}/workloads`]: {
    items: [
      workload("waits", true),
      workload("stopped", false),
      workload("ended", true, [{ type: "Finished", status: "True" }]),
    ],
  },
};

const folder = mkdtempSync(join(tmpdir(), "tunestack-clean-"));
let stub: ApiStub;
let client: ClusterClient;

beforeAll(async () => {
  stub = await ApiStub.start((path) => ANSWERS[path]);
  const kubeconfig = join(folder, "kubeconfig");
  writeFileSync(kubeconfig, stub.kubeconfig());
  client = new ClusterClient(readKubeconfig({ kubeconfig }), "team", NAMESPACE);
});
afterAll(() => {
  stub.stop();
  rmSync(folder, { recursive: true });
});

const read = () => readClusterSite(client, async () => undefined);

describe("what a stack has in a cluster", () => {
  test("is told with the room of its claims, without what controllers made and what is not the stack's", async () => {
    const site = await read();
    const text = formatRemoval(site.rows, planRemoval(site, { checkpoints: false, backups: false }));
    expect(text).toMatch(/Deployment +jupyter/);
    expect(text).toMatch(/Job +experiment-a/);
    expect(text).not.toContain("training-backup-1");
    expect(text).toMatch(/volume +training-logs +100 GiB +lost: loss curves/);
    expect(text).toMatch(/stays: volume training-checkpoints \(100 GiB: .*\); --checkpoints removes it too/);
    expect(text).not.toContain("mine");
  });

  test("is in use by a run that waits, and by one that was stopped and still saves; not by one that has ended", async () => {
    const { inProgress } = await read();
    expect(inProgress.map(({ path }) => path)).toEqual(["run waits", "run stopped"]);
    expect(inProgress[0]?.remedy).toContain("npm run train-stop -- --stack team");
  });

  test("cannot be compared with snapshots where no job of the backup says how a pod gets at them", async () => {
    const unsaved = await (await read()).findUnsaved();
    expect(unsaved).toMatchObject({ kind: "unknown" });
    const place = { stack: "team", localRepository: true, up: "npx pulumi up --stack team" };
    expect(checkpointProblems(unsaved, { backups: false }, place)[0]?.remedy).toBe(
      "npx pulumi up --stack team, npm run backup -- --stack team, then the same command again; or lose them: --force",
    );
  });
});

describe("what is in Google Cloud", () => {
  const remedy = (of: Parameters<typeof notByThisCommand>[0]) => notByThisCommand(of).problems[0]?.remedy ?? "";

  test("goes by commands that are named, a snapshot before the cluster, and each bucket by its name", () => {
    const text = remedy(gkeInputs());
    const order = ["train-stop", "npm run backup", "deletionProtection' false", "pulumi up", "pulumi destroy", "rm"];
    const places = order.map((word) => text.indexOf(word));
    expect(places).toEqual([...places].sort((a, b) => a - b));
    expect(places[0]).toBeGreaterThan(0);
    expect(text).toContain(
      "gcloud storage rm --recursive gs://team-ml-tunestack-prod-gguf gs://team-ml-tunestack-prod-backup\n",
    );
    expect(text).toContain("gcloud storage rm --recursive gs://team-ml-tunestack-prod removes the snapshots too");
  });

  test("of a VM, too", () => {
    expect(remedy(gcpInputs())).toContain("npx pulumi destroy --stack prod");
  });
});
