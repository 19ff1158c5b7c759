import * as pulumi from "@pulumi/pulumi";
import { describe, expect, test } from "vitest";
import { violations } from "../../policy/index.ts";
import { makePlan } from "../../stacks/plan/plan.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { GcpVmStack } from "../../stacks/targets/gcp-vm/stack.ts";
import { cloudNames } from "../../stacks/targets/google-cloud/names.ts";
import { expectGolden } from "../lib/golden.ts";
import { gcpInputs } from "../lib/inputs.ts";
import { find, previewed, SECRET_MARK } from "../lib/previewed.ts";
import { type Registration, recordRegistrations } from "../lib/pulumi-mocks.ts";

async function declare(gcp: RawSettings = {}, settings: RawSettings = {}): Promise<readonly Registration[]> {
  const inputs = gcpInputs({ gcp, settings, secrets: ["jupyter-token", "restic-password"] });
  const { registrations } = await recordRegistrations(
    () =>
      new GcpVmStack("tunestack", {
        names: cloudNames(inputs.stack, inputs.settings.gcp),
        settings: inputs.settings.gcp,
        plan: makePlan(inputs),
        projectDir: "/project",
        owner: "prod@/project",
        inputs: [{ object: "inputs/data/notes.jsonl", file: "/project/notes.jsonl" }],
        secrets: new Map(["jupyter-token", "restic-password"].map((name) => [name, pulumi.secret(`value of ${name}`)])),
        bootScript: "<boot script>",
      }),
  );
  return registrations;
}

const COLAB = {
  enabled: true,
  users: ["Me.Too@example.com"],
  kmsKey: "projects/team-ml/locations/us-central1/keyRings/lab/cryptoKeys/colab",
  schedule: { cron: "TZ=Europe/Berlin 0 3 * * *", notebook: "colab_train.ipynb", maximumRun: "6h" },
};

const SCOPE = "https://www.googleapis.com/auth/";

describe("what the rules of policy/ say of it", () => {
  const untouched = declare();

  test.each([
    ["as it is by default", {}],
    ["with several kinds of GPU at the standard price", { gpus: ["L4", "A100-40"], provisioning: "standard" }],
    ["with an attached GPU", { gpus: ["T4"] }],
  ])("%s: nothing", async (_title, gcp) => {
    expect(violations(previewed(await declare(gcp)))).toEqual([]);
  });

  const TAMPERED: readonly (readonly [string, string, (inputs: Record<string, unknown>) => object, string])[] = [
    [
      "a public address",
      "tunestack-template",
      ({ networkInterfaces }) => ({ networkInterfaces: [{ ...Object(networkInterfaces)[0], accessConfigs: [{}] }] }),
      "public-exposure",
    ],
    ["a firewall open to all", "tunestack-ssh", () => ({ sourceRanges: ["0.0.0.0/0"] }), "public-exposure"],
    [
      "the default account",
      "tunestack-template",
      () => ({ serviceAccount: { email: "12-compute@developer.gserviceaccount.com" } }),
      "broad-identity",
    ],
    [
      "a broad scope",
      "tunestack-template",
      ({ serviceAccount }) => ({ serviceAccount: { ...Object(serviceAccount), scopes: [`${SCOPE}compute`] } }),
      "broad-identity",
    ],
    ["a role over the project", "tunestack-logs-grant", () => ({ role: "roles/editor" }), "broad-identity"],
    ["a bucket for everybody", "tunestack-bucket-grant", () => ({ member: "allUsers" }), "broad-identity"],
    ["a bucket without uniform access", "tunestack-bucket", () => ({ uniformBucketLevelAccess: false }), "open-bucket"],
    [
      "a secret in plain text",
      "tunestack-secret-restic-password-value",
      () => ({ secretData: "in plain text" }),
      "plain-secrets",
    ],
    [
      "a secret in the boot script",
      "tunestack-template",
      () => ({ metadata: { "startup-script": `export HF_TOKEN=hf_${"a".repeat(34)}` } }),
      "plain-secrets",
    ],
  ];

  test.each(TAMPERED)("%s is refused", async (_title, name, change, rule) => {
    const resources = previewed(await untouched).map((resource) =>
      resource.name === name
        ? { ...resource, inputs: { ...resource.inputs, ...change({ ...resource.inputs }) } }
        : resource,
    );
    expect(violations(resources).map((found) => [found.rule, found.path.split(":")[0]])).toEqual([[rule, name]]);
  });

  test("a GPU without a budget is refused", async () => {
    const resources = previewed(await untouched).filter(({ type }) => type !== "gcp:billing/budget:Budget");
    expect(violations(resources).map(({ rule }) => rule)).toContain("gpu-without-budget");
  });
});

describe("what a stack on a GPU VM registers", () => {
  test("every resource of Google's with exactly its inputs", async () => {
    const cloud = (await declare()).filter(({ type, name }) => type.startsWith("gcp:") && name !== "tunestack-plan");
    expectGolden(
      "mocks/gcp-vm.json",
      cloud.map(({ type, name, parent, inputs, retainOnDelete }) => ({ type, name, parent, inputs, retainOnDelete })),
    );
  });

  test("nothing of Colab Enterprise unless it is asked for; then its resources with exactly their inputs", async () => {
    const ofColab = (one: Registration) => /colab/.test(one.type + one.name);
    expect((await declare()).filter(ofColab)).toEqual([]);
    const registrations = await declare({ colab: COLAB });
    expectGolden(
      "mocks/gcp-colab.json",
      registrations
        .filter((one) => ofColab(one) && one.type.startsWith("gcp:"))
        .map(({ type, name, parent, inputs }) => ({ type, name, parent, inputs })),
    );
    expect(violations(previewed(registrations))).toEqual([]);
  });

  test("the right to use a key of one's own, unless others keep the key's rights", async () => {
    const registrations = await declare({ colab: COLAB });
    for (const [name, agent] of [
      ["tunestack-colab-key-results", "gcp-sa-aiplatform"],
      ["tunestack-colab-key-disks", "compute-system"],
    ] as const) {
      expect(find(registrations, name).inputs).toEqual({
        cryptoKeyId: COLAB.kmsKey,
        role: "roles/cloudkms.cryptoKeyEncrypterDecrypter",
        member: `serviceAccount:service-1234@${agent}.iam.gserviceaccount.com`,
      });
      expect(find(registrations, "tunestack-colab-template").dependencies).toContain(name);
    }
    const kept = await declare({ colab: { ...COLAB, grantKey: false } });
    expect(kept.filter(({ type }) => /kms|serviceIdentity/.test(type))).toEqual([]);
    expect(find(kept, "tunestack-colab-template").inputs.encryptionSpec).toEqual({ kmsKeyName: COLAB.kmsKey });
  });

  test("a runtime template with another GPU, disk, time and network, and without a key or a schedule", async () => {
    const colab = { enabled: true, gpu: "T4", disk: "50GiB", idleShutdown: "2h", publicInternet: true };
    const registrations = await declare({ colab });
    expect(find(registrations, "tunestack-colab-template").inputs).toMatchObject({
      machineSpec: { machineType: "n1-standard-8", acceleratorType: "NVIDIA_TESLA_T4", acceleratorCount: 1 },
      dataPersistentDiskSpec: { diskSizeGb: "50" },
      idleShutdownConfig: { idleTimeout: "7200s" },
      networkSpec: { enableInternetAccess: true },
    });
    expect(JSON.stringify(registrations)).not.toMatch(/encryptionSpec|colab\/schedule/);
    const withoutBudget = previewed(registrations).filter(
      ({ type }) => !/Budget|instanceTemplate|InstanceGroupManager/.test(type),
    );
    expect(violations(withoutBudget).map(({ rule, path }) => [rule, path])).toEqual([
      ["gpu-without-budget", "tunestack-colab-template"],
    ]);
  });

  test("a plan that names the images by what was pushed", async () => {
    const { inputs } = find(await declare(), "tunestack-plan");
    expect(inputs).toMatchObject({ name: "plan/compose.yaml", contentType: "application/yaml" });
    expect(JSON.stringify(inputs.content)).toContain("image: <reference of tunestack-image-training>");
  });

  test("secrets as secrets, in their versions alone", async () => {
    const registrations = await declare();
    const holding = registrations.filter(({ inputs }) => JSON.stringify(inputs).includes("value of "));
    expect(holding.map(({ name }) => name)).toEqual([
      "tunestack-secret-jupyter-token-value",
      "tunestack-secret-restic-password-value",
    ]);
    for (const { inputs } of holding) expect(JSON.stringify(inputs.secretData)).toContain(SECRET_MARK);
  });

  test("images into the registry, with their cache, from a base that the world has", async () => {
    const { inputs } = find(await declare(), "tunestack-image-training");
    const tag = "us-central1-docker.pkg.dev/team-ml/tunestack-prod/training:latest";
    expect(inputs).toMatchObject({
      tags: [tag],
      push: true,
      load: false,
      cacheFrom: [{ registry: { ref: tag } }],
      cacheTo: [{ inline: {} }],
    });
    expect(JSON.stringify(inputs.buildArgs)).toMatch(/nvidia\/cuda:.*@sha256:.*cu126/);
  });

  test("a run, its data and its image leave the machine as it is", async () => {
    const before = await declare();
    const after = await declare({}, { training: { run: "another", set: { max_steps: 7 } } });
    for (const name of ["tunestack-template", "tunestack-group"])
      expect(find(after, name).inputs).toEqual(find(before, name).inputs);
    expect(find(after, "tunestack-plan").inputs.content).not.toEqual(find(before, "tunestack-plan").inputs.content);
  });

  test("the machine comes after all that it asks for at its start", async () => {
    expect(find(await declare(), "tunestack-group").dependencies).toEqual(
      expect.arrayContaining([
        "tunestack-plan",
        "tunestack-inputs/data/notes.jsonl",
        "tunestack-data-us-central1-a",
        "tunestack-secret-jupyter-token-value",
        "tunestack-secret-jupyter-token-grant",
      ]),
    );
  });

  test("several kinds of GPU by rank, standard machines, no budget", async () => {
    const registrations = await declare({ gpus: ["L4", "A100-40"], provisioning: "standard", budget: undefined });
    expect(find(registrations, "tunestack-group").inputs.instanceFlexibilityPolicy).toEqual({
      instanceSelections: [
        { name: "l4", rank: 1, machineTypes: ["g2-standard-8"] },
        { name: "a100-40", rank: 2, machineTypes: ["a2-highgpu-1g"] },
      ],
    });
    expect(find(registrations, "tunestack-template").inputs.scheduling).toMatchObject({
      provisioningModel: "STANDARD",
      preemptible: false,
    });
    expect(registrations.map(({ name }) => name)).not.toContain("tunestack-budget");
  });
});
