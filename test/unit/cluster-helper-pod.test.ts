import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { V1PodTemplateSpec } from "@kubernetes/client-node";
import { describe, expect, test } from "vitest";
import { LABELS } from "../../k8s/names.ts";
import { RUN_KINDS } from "../../k8s/run-kinds.ts";
import { helperJob, STAY } from "../../scripts/lib/cluster/helper-pod.ts";
import { renderOneOff } from "../../scripts/lib/cluster/one-off.ts";
import { planExport } from "../../stacks/plan/run.ts";
import { clusterLayout } from "../../stacks/targets/kubernetes/layout.ts";
import { kubernetesInputs } from "../lib/inputs.ts";
import { renderCluster } from "../lib/kubernetes.ts";

const { objects } = renderCluster();

/** An object as the API server gives it. */
function plain(kind: string): unknown {
  return JSON.parse(JSON.stringify(objects.find((object) => object.kind === kind)));
}

function runTemplate(): V1PodTemplateSpec {
  const jobSet = RUN_KINDS.find(({ kind }) => kind === "JobSet");
  const template = jobSet?.template(plain("JobSet"));
  if (template === undefined) throw new Error("the run has no template");
  return template as V1PodTemplateSpec;
}

describe("a helper's pod", () => {
  const job = helperJob(runTemplate(), "team", false);
  const spec = job.spec?.template.spec;
  const [container] = spec?.containers ?? [];

  test("has the run's volumes, user and limits of what it may do, and neither its command nor its GPU", () => {
    const [own] = runTemplate().spec?.containers ?? [];
    expect(container?.volumeMounts).toEqual(own?.volumeMounts);
    expect(container?.securityContext).toEqual(own?.securityContext);
    expect(spec?.securityContext).toEqual(runTemplate().spec?.securityContext);
    expect(own?.resources?.limits).toHaveProperty(["nvidia.com/gpu"]);
    expect(container?.resources?.limits).not.toHaveProperty(["nvidia.com/gpu"]);
    expect(container?.args).toEqual(STAY);
    expect(container?.readinessProbe).toBeUndefined();
  });

  test("is not taken for one of the run's, and goes by itself when it has ended", () => {
    const labels = job.spec?.template.metadata?.labels ?? {};
    expect(labels).not.toHaveProperty([LABELS.run]);
    expect(labels[LABELS.name]).toBe("helper");
    expect(labels[LABELS.instance]).toBe("team");
    expect(job.spec).toMatchObject({ backoffLimit: 0, ttlSecondsAfterFinished: 60, activeDeadlineSeconds: 86400 });
  });
});

describe("what a helper's pod runs", () => {
  /** The same script in a folder of the test, with seconds for minutes. */
  function stay(folder: string) {
    const script = (STAY[2] ?? "")
      .replaceAll("/tmp/alive", join(folder, "alive"))
      .replace("-mmin -5", "-newermt '-2 seconds'")
      .replace("sleep 5", "sleep 0.2");
    return spawn("sh", ["-c", script], { stdio: "ignore" });
  }

  test("ends by itself some time after the last sign of life, and not before", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tunestack-stay-"));
    const child = stay(folder);
    const ended = once(child, "exit");
    for (let sign = 0; sign < 6; sign += 1) {
      await sleep(500);
      expect(child.exitCode).toBeNull();
      if (existsSync(join(folder, "alive"))) await once(spawn("touch", [join(folder, "alive")]), "exit");
    }
    expect(await ended).toEqual([0, null]);
    rmSync(folder, { recursive: true });
  });

  test("ends at once when it is asked to", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tunestack-stay-"));
    const child = stay(folder);
    while (!existsSync(join(folder, "alive"))) await sleep(20);
    child.kill("SIGTERM");
    expect(await once(child, "exit")).toEqual([0, null]);
    rmSync(folder, { recursive: true });
  });
});

test("a one-off waits in the runs' queue, with one GPU of a run's node", () => {
  const inputs = kubernetesInputs({ kubernetes: { run: { nodes: 2, gpus: 4, priority: "high" } } });
  const workload = planExport(inputs, "cuda", ["first-run", "--json"], undefined);
  const job = renderOneOff(
    "agent-export-first-run",
    "registry.example.com/ml/training@sha256:0",
    workload,
    clusterLayout(inputs),
  );
  expect(job.metadata).toMatchObject({
    name: "agent-export-first-run",
    namespace: "tunestack-team",
    labels: {
      "kueue.x-k8s.io/queue-name": "runs",
      "kueue.x-k8s.io/priority-class": "tunestack-team-high",
    },
  });
  const [container] = job.spec?.template.spec?.containers ?? [];
  expect(container?.image).toBe("registry.example.com/ml/training@sha256:0");
  expect(container?.resources?.limits).toMatchObject({ cpu: "4", memory: "24Gi", "nvidia.com/gpu": "1" });
  expect(container?.volumeMounts?.map(({ mountPath }) => mountPath)).toEqual(
    expect.arrayContaining(["/models/cache", "/checkpoints", "/models/gguf"]),
  );
});
