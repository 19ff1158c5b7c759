import { describe, expect, test } from "vitest";
import { RUN_KINDS } from "../../k8s/run-kinds.ts";
import { renderCluster } from "../lib/kubernetes.ts";

/** What the stack applies of a run, as the API server gives it back. */
function applied(runAs: "jobset" | "trainjob") {
  const { objects } = renderCluster({ kubernetes: { runAs }, settings: { profiles: ["training"] } });
  return (kind: string) => JSON.parse(JSON.stringify(objects.find((one) => one.kind === kind))) as object;
}

const kindOf = (kind: string) => {
  const found = RUN_KINDS.find((one) => one.kind === kind);
  if (found === undefined) throw new Error(`no run is a ${kind}`);
  return found;
};

describe("a run as a TrainJob", () => {
  const find = applied("trainjob");
  const kind = kindOf("TrainJob");

  test("is looked for before a JobSet, since the trainer makes a JobSet of its name", () => {
    expect(RUN_KINDS.map((one) => one.kind)).toEqual(["TrainJob", "JobSet"]);
  });

  test("names the runtime that describes its pods as the JobSet's object describes its own", () => {
    const runtime = find("TrainingRuntime") as { metadata: { name: string } };
    const named = kind.describedBy?.(find("TrainJob"));
    expect(named).toEqual({
      apiVersion: "trainer.kubeflow.org/v1alpha1",
      kind: "TrainingRuntime",
      name: runtime.metadata.name,
    });
    const [own] = kind.template(runtime)?.spec.containers ?? [];
    const jobSet = kindOf("JobSet");
    expect(jobSet.describedBy).toBeUndefined();
    const [other] = jobSet.template(applied("jobset")("JobSet"))?.spec.containers ?? [];
    expect(own).toEqual({ ...other, name: "node" });
  });

  test.each([
    [[], undefined],
    [[{ type: "Suspended", status: "True" }], undefined],
    [[{ type: "Complete", status: "False" }], undefined],
    [[{ type: "Complete", status: "True" }], "completed"],
    [[{ type: "Failed", status: "True" }], "failed"],
  ])("with %j has ended as %s", (conditions, end) => {
    expect(kind.ended({ ...find("TrainJob"), status: { conditions } })).toBe(end);
    expect(kind.ended(find("TrainJob"))).toBeUndefined();
  });
});
