import type { TestProject } from "vitest/node";
import { ensureControlPlane, ensureObjectCheckers, type ObjectCheckers } from "../../../offline/control-plane.ts";
import { CACHE_DIR } from "../../../scripts/lib/project.ts";
import { step } from "../../../scripts/lib/steps.ts";
import { type Access, Api } from "./api.ts";
import { type Cluster, startCluster } from "./control-plane.ts";
import { addPools, cpuPool } from "./nodes.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** The control plane that all files of the layer share. */
    readonly cluster: Access;
    readonly kubeconfig: string;
    /** What every container has printed. */
    readonly podLog: string;
    readonly checkers: ObjectCheckers;
  }
}

/** Starts one control plane for all files, and ends it after the last. */
export default async function setUpCluster(project: TestProject): Promise<() => Promise<void>> {
  const built = await step("control plane", async (report) => ({
    said: "built",
    value: await ensureControlPlane(CACHE_DIR, report),
  }));
  const checkers = await step("kubeconform and kube-score", async (report) => ({
    said: "built",
    value: await ensureObjectCheckers(CACHE_DIR, report),
  }));
  const cluster: Cluster = await step("cluster", async () => ({ said: "up", value: await startCluster(built) }));
  const api = new Api(cluster.access);
  // For services; a test that trains adds nodes with GPUs of its own.
  await addPools(api, [cpuPool("cpu", 2)]);
  api.close();
  project.provide("cluster", cluster.access);
  project.provide("kubeconfig", cluster.kubeconfig);
  project.provide("podLog", cluster.podLog);
  project.provide("checkers", checkers);
  return cluster.stop;
}
