import { ensureControlPlane, ensureObjectCheckers } from "../../offline/control-plane.ts";
import { OfflineError } from "../../offline/setup.ts";
import { CACHE_DIR } from "../../scripts/lib/project.ts";
import { step } from "../../scripts/lib/steps.ts";
import type { Layer } from "./layers.ts";
import type { SuiteResult } from "./results.ts";
import { vitestSuite } from "./vitest-suite.ts";

/** Rendered objects on a real control plane of Kubernetes. Pods run nowhere: KWOK says of them what a kubelet would. */
export const CLUSTER_LAYER: Layer = {
  name: "cluster",
  headline: "what is rendered for Kubernetes on a real API server, scheduler, JobSet and Kueue, with KWOK nodes",
  run: async (record) => {
    const started = Date.now();
    try {
      await step("Kubernetes control plane", async (report) => {
        await ensureControlPlane(CACHE_DIR, report);
        await ensureObjectCheckers(CACHE_DIR, report);
        return { said: "there", value: undefined };
      });
    } catch (error) {
      const skipped = skippedFor(error, (Date.now() - started) / 1000);
      if (skipped === undefined) throw error;
      record(skipped);
      return;
    }
    record(await vitestSuite("cluster", { follow: true }));
  },
};

/** A machine that reaches no Go modules cannot have a control plane; any other failure is one. */
export function skippedFor(error: unknown, seconds: number): SuiteResult | undefined {
  if (!(error instanceof OfflineError) || (error.cause !== "network" && error.cause !== "toolchain")) return undefined;
  const reason = error.message
    .split("\n")
    .map((line) => line.trim())
    .join("; ");
  return { name: "cluster tests", passed: 0, failed: 0, skipped: [{ test: "all", reason }], seconds, output: "" };
}
