import { describe, expect, test } from "vitest";
import { makePlan } from "../../stacks/plan/plan.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { gcpInputs, problemsOf } from "../lib/inputs.ts";

const REJECTED: readonly (readonly [string, RawSettings, string, string])[] = [
  [
    "a zone of another region",
    { zones: ["us-central1-a", "europe-west4-a"] },
    "gcp.zones.1 (test)",
    "is no zone of the region us-central1",
  ],
  ["a zone twice", { zones: ["us-central1-a", "us-central1-a"] }, "gcp.zones.1 (test)", "stands there twice"],
  ["a GPU twice", { gpus: ["L4", "L4"] }, "gcp.gpus.1 (test)", "stands there twice"],
  [
    "a T4 among others",
    { gpus: ["L4", "T4"] },
    "gcp.gpus.1 (test)",
    "cannot be one of several: it is attached to a machine, and the others come with theirs",
  ],
  [
    "an H100 at the standard price",
    { gpus: ["H100"], provisioning: "standard" },
    "gcp.gpus.0 (test)",
    "is rented as spot alone",
  ],
  [
    "no project id",
    { project: "My Project" },
    "gcp.project (test)",
    "is no project id: 6 to 30 lower-case letters, digits, hyphens",
  ],
  [
    "a Colab runtime that would never stop",
    { colab: { idleShutdown: "5m" } },
    "gcp.colab.idleShutdown (test)",
    "is outside of what Colab Enterprise takes",
  ],
  [
    "a user who is none",
    { colab: { users: ["me"] } },
    "gcp.colab.users.0 (test)",
    "is no mail of a login: write it as me@example.com",
  ],
  [
    "a key by another name",
    { colab: { kmsKey: "my-key" } },
    "gcp.colab.kmsKey (test)",
    "is no key: write it as projects/P/locations/L/keyRings/R/cryptoKeys/K",
  ],
  [
    "a key of another region",
    { colab: { kmsKey: "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k" } },
    "gcp.colab.kmsKey (test)",
    "is in europe-west4, and the disks that it is to encrypt in us-central1",
  ],
  [
    "a time that is none of cron's",
    { colab: { schedule: { cron: "every night", notebook: "x.ipynb", maximumRun: "1h" } } },
    "gcp.colab.schedule.cron (test)",
    "is no time of cron: write minute, hour, day, month and weekday, such as 0 3 * * *",
  ],
  [
    "a GPU that Colab Enterprise has not",
    { colab: { gpu: "H100" } },
    "gcp.colab.gpu (test)",
    "is not one of the values allowed",
  ],
  [
    "nobody's name",
    { access: ["me@example.com"] },
    "gcp.access.0 (test)",
    "is nobody's name: write it as user:me@example.com or group:team@example.com",
  ],
];

describe("the block gcp", () => {
  test.each(REJECTED)("%s is told", (_title, gcp, path, reason) => {
    expect(problemsOf(() => gcpInputs({ gcp })).map(({ path, reason }) => ({ path, reason }))).toEqual([
      { path, reason },
    ]);
  });

  test("a T4 alone, several others, and an H100 as spot will do", () => {
    for (const gpus of [["T4"], ["L4", "A100-40", "A100-80", "H100"]])
      expect(gcpInputs({ gcp: { gpus } }).settings.gcp.gpus).toEqual(gpus);
  });
});

describe("a preset on a rented GPU", () => {
  const plan = (preset: string, gpus: readonly string[], set: RawSettings = {}) =>
    makePlan(gcpInputs({ gcp: { gpus }, settings: { training: { preset, set } }, secrets: ["hf-token"] }));

  test("needs memory and bf16 of every kind of GPU that it may get", () => {
    expect(problemsOf(() => plan("gemma-9b", ["T4"])).map(({ path, reason }) => ({ path, reason }))).toEqual([
      { path: "gcp.gpus[0]", reason: "has 16 GiB of memory, and the preset gemma-9b needs 22" },
    ]);
    expect(problemsOf(() => plan("gemma-2b", ["T4"])).map(({ reason }) => reason)).toEqual([
      "cannot compute in bf16, in which the preset gemma-2b trains",
    ]);
  });

  test("is taken where each will do, whatever this machine has", () => {
    expect(plan("gemma-9b", ["L4", "A100-40"]).image.pythonSet).toBe("cu126");
    expect(plan("gemma-2b", ["T4"], { precision: "fp16" }).run?.preset).toBe("gemma-2b");
    expect(plan("rehearsal", ["T4"]).run?.preset).toBe("rehearsal");
  });

  test("takes nothing over from the machine on which it is declared", () => {
    const { image, leftOut } = plan("rehearsal", ["L4"]);
    expect(image.base).toContain("nvidia/cuda:");
    expect(leftOut).toEqual([]);
  });
});
