import { describe, expect, test } from "vitest";
import { type DryRunContainer, dryRunArguments } from "../../scripts/lib/dry-run.ts";
import { planRun } from "../../stacks/plan/run.ts";
import { stackInputs } from "../lib/inputs.ts";

const CONTAINER: DryRunContainer = {
  image: "tunestack/dry-run:dev",
  json: false,
  terminal: false,
  volume: ({ volume }) => volume,
};

const workload = (set: Readonly<Record<string, number>> = {}) =>
  planRun(stackInputs({ settings: { training: { run: "mine", set } } }), "cpu").workload;

const args = (container: Partial<DryRunContainer> = {}, set: Readonly<Record<string, number>> = {}) =>
  dryRunArguments(workload(set), { ...CONTAINER, ...container }).join(" ");

describe("the container of a dry run", () => {
  test("runs the command of the run, with --dry-run", () => {
    const command = workload({ lora_r: 8 }).command ?? [];
    expect(command).toContain("--set=lora_r=8");
    expect(args({}, { lora_r: 8 })).toContain(`tunestack/dry-run:dev ${command.join(" ")} --dry-run`);
    expect(args({ json: true })).toMatch(/ --dry-run --json$/);
  });

  test("is as hardened as the run, and goes away", () => {
    const text = args();
    for (const option of ["--rm", "--read-only", "--cap-drop ALL", "no-new-privileges", "--user 1000:1000"]) {
      expect(text).toContain(option);
    }
  });

  test("writes to the models' cache alone", () => {
    const text = args();
    expect(text).toContain("source=training_models_cache,target=/models/cache ");
    expect(text).toContain("source=training_checkpoints,target=/checkpoints,readonly");
    expect(text).toMatch(/type=bind,source=\S*tunestack-help\.jsonl,target=\/data\/tunestack-help\.jsonl,readonly/);
  });

  test("makes no volume that the stack has not made", () => {
    expect(args({ volume: () => undefined })).not.toContain("type=volume");
  });

  test("needs no GPU", () => {
    expect(args()).not.toContain("--gpus");
    expect(args()).toContain("NVIDIA_VISIBLE_DEVICES=void");
  });

  test("has a terminal where a person watches", () => {
    expect(args()).not.toContain("--tty");
    expect(args({ terminal: true })).toContain("--tty");
  });
});
