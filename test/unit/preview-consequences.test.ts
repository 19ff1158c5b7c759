import { describe, expect, test } from "vitest";
import { UNKNOWN } from "../../policy/secrets.ts";
import type { Operation } from "../../policy/types.ts";
import { consequenceOf } from "../../scripts/lib/preview/consequences.ts";
import { type Live, NO_RUN } from "../../scripts/lib/preview/live.ts";
import { makePlan } from "../../stacks/plan/plan.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { PLAN_OBJECT } from "../../stacks/targets/gcp-vm/paths.ts";
import { composeText, renderCompose } from "../../stacks/targets/gcp-vm/render-compose.ts";
import { gcpInputs } from "../lib/inputs.ts";

const LIVE: Live = { kind: "run", name: "first-run", step: 40, maxSteps: 200, secondsLeft: 600 };
const UNSEEN: Live = { kind: "unseen", reason: "gcloud is not installed" };

function changed(type: string, operation: Operation, before: object | undefined, inputs: object) {
  const resource = { name: "x", type, operation, retainOnDelete: false, protect: false };
  return { ...resource, before: before === undefined ? undefined : { ...before }, inputs: { ...inputs } };
}

describe("a new plan in the bucket of a VM", () => {
  const plan = (settings: RawSettings = {}, image = "<image>") => ({
    name: PLAN_OBJECT,
    content: composeText(renderCompose(makePlan(gcpInputs({ settings })), "prod@/project", { image: () => image })),
  });
  const become = (next: object, live: Live = NO_RUN, before: object = plan()) =>
    consequenceOf(changed("gcp:storage/bucketObject:BucketObject", "update", before, next), live);
  const training = (more: object) => ({ training: { preset: "rehearsal", run: "next-run", ...more } });

  test("restarts the service that a setting concerns, and no other; a run in progress stays", () => {
    const next = plan({ services: { jupyter: { memory: "8GiB" } } });
    expect(become(next, LIVE)).toEqual({ level: "interrupts", text: "restarts service jupyter" });
  });

  test("stops and starts what leaves and comes", () => {
    const next = plan({ profiles: ["training", "dev"] });
    expect(become(next)).toMatchObject({
      level: "interrupts",
      text: "stops service gpu-monitor, service training-backup",
    });
    expect(become(plan(), NO_RUN, next)).toMatchObject({
      level: "safe",
      text: expect.stringMatching(/^starts service/),
    });
  });

  test("starts another run, but does not replace one in progress", () => {
    expect(become(plan(training({})))).toEqual({ level: "safe", text: "starts run next-run" });
    expect(become(plan(training({})), LIVE)).toEqual({
      level: "safe",
      text: "run first-run goes on and is not replaced; run next-run does not start",
    });
    expect(become(plan(training({})), UNSEEN).text).toBe("starts run next-run, unless one is in progress");
  });

  test("kills the run in progress where it may be replaced, and says at which step", () => {
    const next = plan(training({ replaceRunning: true }));
    expect(become(next, LIVE)).toEqual({ level: "kills", text: "kills run first-run at step 40 of 200" });
    expect(become(next, UNSEEN)).toEqual({ level: "kills", text: "kills the run in progress, if there is one" });
    expect(become(next)).toEqual({ level: "safe", text: "starts run next-run" });
  });

  test("with another image alone restarts the services, and no run", () => {
    const { level, text } = become(plan({}, "<new image>"), LIVE);
    expect(level).toBe("interrupts");
    expect(text).toMatch(/^restarts service /);
    expect(text).not.toContain("qlora-training");
  });

  test("whose image is not built yet is not called safe", () => {
    expect(become({ name: PLAN_OBJECT, content: UNKNOWN }, LIVE)).toMatchObject({
      level: "unknown",
      text: expect.stringMatching(/^once the image is built, .* a run in progress stays, unless/),
    });
  });

  test("that says the same changes nothing", () => {
    expect(become(plan(), LIVE)).toEqual({ level: "safe", text: "nothing that runs changes" });
  });

  test("is told from the files beside it", () => {
    const file = changed("gcp:storage/bucketObject:BucketObject", "replace", {}, { name: "inputs/data/notes.jsonl" });
    expect(consequenceOf(file, LIVE).level).toBe("safe");
  });
});

describe("what stands around a VM", () => {
  test.each([
    ["gcp:compute/instanceTemplate:InstanceTemplate", "safe"],
    ["gcp:compute/routerNat:RouterNat", "interrupts"],
    ["gcp:compute/firewall:Firewall", "interrupts"],
    ["gcp:projects/iAMMember:IAMMember", "interrupts"],
    ["gcp:storage/bucketIAMMember:BucketIAMMember", "interrupts"],
    ["gcp:secretmanager/secretVersion:SecretVersion", "safe"],
    ["gcp:compute/network:Network", "unknown"],
  ] as const)("%s, replaced: %s", (type, level) => {
    expect(consequenceOf(changed(type, "replace", {}, {}), LIVE).level).toBe(level);
  });

  test("a machine that goes takes the run with it", () => {
    const group = changed("gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager", "replace", {}, {});
    expect(consequenceOf(group, LIVE)).toEqual({ level: "kills", text: "kills run first-run at step 40 of 200" });
    expect(consequenceOf(group, UNSEEN)).toEqual({
      level: "interrupts",
      text: "ends the machine, and what runs on it",
    });
  });
});

describe("objects of a cluster", () => {
  const object = (labels: object) => ({ metadata: { labels } });
  const jupyter = object({ "app.kubernetes.io/name": "jupyter" });
  const run = (name: string) => object({ "tunestack.dev/run": name });
  const JOB_SET = "kubernetes:jobset.x-k8s.io/v1alpha2:JobSet";
  const QUEUE_OF = "kubernetes:kueue.x-k8s.io/v1beta2:ClusterQueue";

  test.each([
    ["kubernetes:apps/v1:Deployment", "update", jupyter, jupyter, "interrupts", "restarts service jupyter"],
    ["kubernetes:apps/v1:Deployment", "delete", jupyter, jupyter, "interrupts", "stops service jupyter"],
    [JOB_SET, "replace", run("first-run"), run("next"), "kills", "kills run first-run at step 40 of 200"],
    [
      JOB_SET,
      "replace",
      run("old"),
      run("next"),
      "safe",
      "queues run next in the place of run old, which is not in progress",
    ],
    [JOB_SET, "create", undefined, run("next"), "safe", "queues run next"],
    [QUEUE_OF, "update", {}, {}, "safe", "holds for what is queued; a run that was let in stays in"],
    [QUEUE_OF, "delete", {}, {}, "interrupts", "nothing more is let in meanwhile; a run that was let in stays in"],
    ["kubernetes:core/v1:Namespace", "delete", {}, {}, "kills", "everything in it is lost, its volumes too"],
    ["kubernetes:core/v1:Secret", "update", {}, {}, "safe", "taken by what starts from now on"],
  ] as const)("%s, %s", (type, operation, before, inputs, level, text) => {
    expect(consequenceOf(changed(type, operation, before, inputs), LIVE)).toEqual({ level, text });
  });

  test("of a kind that nobody thought of are not called safe", () => {
    expect(consequenceOf(changed("kubernetes:apps/v1:StatefulSet", "update", {}, {}), LIVE).level).toBe("unknown");
  });
});
