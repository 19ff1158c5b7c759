import { afterAll, describe, expect, inject, test } from "vitest";
import { z } from "zod";
import { Api } from "./lib/api.ts";
import { addPools, gpuPool } from "./lib/nodes.ts";
import { holds, isAtWork, JOBSET, TRAIN_JOB, TrainingStack } from "./lib/stack.ts";
import { until } from "./lib/until.ts";

const api = new Api(inject("cluster"));
afterAll(() => api.close());

const condition = z.object({ type: z.string(), status: z.string() });
const trainJobSchema = z.object({ status: z.object({ conditions: z.array(condition).default([]) }) });
const jobSetSchema = z.object({
  metadata: z.object({
    labels: z.record(z.string(), z.string()),
    ownerReferences: z.array(z.object({ kind: z.string(), name: z.string() })),
  }),
  spec: z.looseObject({ replicatedJobs: z.array(z.looseObject({})) }),
});
const runtimeSchema = z.object({
  spec: z.object({ template: z.object({ spec: z.looseObject({ replicatedJobs: z.array(z.looseObject({})) }) }) }),
});

async function stackWith(name: string, nodes: number, run = {}): Promise<TrainingStack> {
  await addPools(api, [gpuPool(name, nodes)]);
  return await TrainingStack.make(api, { name, gpus: nodes, run, runAs: "trainjob" });
}

async function ends(stack: TrainingStack, run: string, condition: "Complete" | "Failed"): Promise<void> {
  await until(`the TrainJob ${run} is ${condition}`, async () => {
    const { status } = trainJobSchema.parse(await api.get(TRAIN_JOB, run, stack.layout.namespace));
    return holds(status.conditions, condition) ? true : undefined;
  });
}

describe.concurrent("a run as a TrainJob of Kubeflow Trainer", () => {
  test("is accepted as it is, admitted, placed on a node with a GPU each, and ends", async () => {
    const stack = await stackWith("train-job", 2, { nodes: 2 });
    const applied = await stack.submit("tuned");
    expect(applied.map(({ kind }) => kind)).toEqual(["TrainingRuntime", "TrainJob"]);
    expect(applied.flatMap(({ warnings }) => warnings)).toEqual([]);

    const pods = await stack.running("tuned", 2);
    const nodes = pods.map(({ spec }) => spec.nodeName);
    expect(new Set(nodes).size).toBe(2);
    for (const node of nodes) expect(node).toMatch(/^train-job-/);
    const [first] = pods.filter(({ metadata }) => metadata.labels["batch.kubernetes.io/job-completion-index"] === "0");
    for (const { spec } of pods)
      expect(spec.containers[0]?.args).toContain(
        `--rdzv-endpoint=${first?.spec.hostname}.${first?.spec.subdomain}:29500`,
      );

    await stack.end("tuned");
    await ends(stack, "tuned", "Complete");
    expect(await stack.ended("tuned")).toEqual({ state: "Completed", restarts: 0 });
    await until("Kueue gives the quota back", async () => {
      const { conditions } = (await stack.workload("tuned")).status;
      return holds(conditions, "Finished") ? true : undefined;
    });
  });

  test("becomes the JobSet of its runtime, with what Kueue adds", async () => {
    const stack = await stackWith("same-pod", 1);
    await stack.submit("same");
    await stack.running("same");
    const jobSet = jobSetSchema.parse(await api.get(JOBSET, "same", stack.layout.namespace));
    expect(jobSet.metadata.ownerReferences).toMatchObject([{ kind: "TrainJob", name: "same" }]);
    const [runtime] = stack.render("same").map((one) => runtimeSchema.safeParse(one).data);
    expect(jobSet.spec).toMatchObject(runtime?.spec.template.spec ?? {});
    expect(jobSet.metadata.labels).toMatchObject({ "app.kubernetes.io/name": "qlora-training" });
    await stack.end("same");
    await ends(stack, "same", "Complete");
  });

  test("that makes a mistake fails at once; one that is told to stop is started again", async () => {
    const stack = await stackWith("train-job-ends", 1);
    await stack.submit("stopped");
    const [before] = await stack.running("stopped");
    await stack.end("stopped", 75);
    await until("another pod runs", async () => {
      const [pod] = (await stack.pods("stopped")).filter(isAtWork);
      return pod !== undefined && pod.metadata.uid !== before?.metadata.uid ? true : undefined;
    });
    await stack.end("stopped", 2);
    await ends(stack, "stopped", "Failed");
    expect(await stack.ended("stopped")).toEqual({ state: "Failed", restarts: 0 });
  });

  test("goes on where it was after a run of a higher priority", async () => {
    const stack = await stackWith("train-job-queue", 1);
    await stack.submit("patient", { priority: "low" });
    const [before] = await stack.running("patient");
    await stack.submit("urgent", { priority: "high" });
    await stack.running("urgent");
    await stack.end("urgent");
    await ends(stack, "urgent", "Complete");
    const [after] = await stack.running("patient");
    expect(after?.metadata.uid).not.toBe(before?.metadata.uid);
    expect(after?.spec.containers[0]?.args).toEqual(before?.spec.containers[0]?.args);
    await stack.end("patient");
    await ends(stack, "patient", "Complete");
  });
});
