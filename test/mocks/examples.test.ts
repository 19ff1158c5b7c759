import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import * as pulumi from "@pulumi/pulumi";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { violations } from "../../policy/index.ts";
import { costOf } from "../../scripts/lib/preview/cost.ts";
import type { StackOutputs } from "../../stacks/outputs.ts";
import { PERSONAL_FOLDER } from "../../stacks/settings/machine.ts";
import { TARGETS } from "../../stacks/settings/schema.ts";
import { EXAMPLE_TARGETS, exampleFile, UNPRICED } from "../lib/examples.ts";
import { previewed } from "../lib/previewed.ts";
import { recordRegistrations } from "../lib/pulumi-mocks.ts";

vi.mock(import("../../stacks/targets/docker/engine.ts"), async (original) => ({
  ...(await original()),
  readEngine: async () => ({ containers: [], takenPorts: [] }),
}));

// A cluster that has what the example names.
vi.mock(import("../../k8s/access.ts"), async (original) => ({
  ...(await original()),
  readKubeconfig: () => new KubeConfig(),
}));
vi.mock(import("../../k8s/look.ts"), async (original) => ({
  ...(await original()),
  lookAtCluster: async () => ({
    context: "team-cluster",
    version: "v1.35.4",
    apis: new Map([
      ["kueue.x-k8s.io", ["v1beta2"]],
      ["jobset.x-k8s.io", ["v1alpha2"]],
    ]),
    nodes: ["NVIDIA-L4", "NVIDIA-A100-SXM4-80GB"].map((product) => ({
      name: product.toLowerCase(),
      labels: { "nvidia.com/gpu.product": product },
      gpus: 8,
    })),
    autoscaled: false,
    runtimeClasses: ["nvidia"],
    storageClasses: ["nfs", "ssd"].map((name) => ({ name, provisioner: `${name}.example.com`, isDefault: false })),
    claims: [],
    missingRights: [],
    runs: [],
  }),
}));

const home = process.cwd();
let projectDir: string;

beforeEach(() => {
  projectDir = mkdtempSync(join(tmpdir(), "tunestack-example-"));
  process.chdir(projectDir);
  const data = join("examples", "data");
  mkdirSync(data, { recursive: true });
  copyFileSync(join(home, data, "tunestack-help.jsonl"), join(data, "tunestack-help.jsonl"));
  const secrets = join(PERSONAL_FOLDER, "secrets", "dev");
  mkdirSync(secrets, { recursive: true });
  for (const name of ["jupyter-token", "restic-password", "hf-token"]) writeFileSync(join(secrets, name), "secret\n");
  writeFileSync(
    join(PERSONAL_FOLDER, "machine.json"),
    JSON.stringify({ schema: 1, checkedAt: "x", accelerator: "cuda", unreachableRegistries: [] }),
  );
  pulumi.runtime.setAllConfig({});
  vi.stubEnv("DOCKER_HOST", "");
  vi.stubEnv("KUBECONFIG", "");
  vi.resetModules();
});

afterEach(() => {
  process.chdir(home);
  rmSync(projectDir, { recursive: true, force: true });
  vi.unstubAllEnvs();
});

test("there is one for each target", () => {
  expect(EXAMPLE_TARGETS).toEqual([...TARGETS].sort());
});

describe.each(EXAMPLE_TARGETS)("the example for %s", (target) => {
  test("is loaded, planned and declared, and no rule has anything against it", async () => {
    // The mocks' stack is `dev`.
    copyFileSync(exampleFile(target), "Pulumi.dev.yaml");
    const { value, registrations } = await recordRegistrations(async () => {
      const { tunestack } = await import("../../index.ts");
      return await new Promise<unknown>((resolve) => pulumi.output(tunestack).apply(resolve));
    });
    const outputs = value as StackOutputs;
    expect(outputs.target).toBe(target);
    expect(outputs.run?.name).toMatch(/-notes$/);
    expect(outputs.services.map(({ name }) => name)).toEqual(expect.arrayContaining(["jupyter", "training-backup"]));
    const resources = previewed(registrations);
    expect(violations(resources)).toEqual([]);
    expect([...costOf(resources).unpriced].sort()).toEqual(UNPRICED[target] ?? []);
  });
});
