import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type CloudFacts, type CloudWanted, cloudChecks } from "../../scripts/lib/doctor/cloud-checks.ts";
import { cloudWanted, readCloud } from "../../scripts/lib/doctor/read-cloud.ts";
import { googleServices } from "../../stacks/settings/gcp.ts";
import type { StackInputs } from "../../stacks/settings/load.ts";
import { FakeGcloud } from "../lib/fake-gcloud.ts";
import { gcpInputs, gkeInputs, kubernetesInputs } from "../lib/inputs.ts";

const SERVICES = googleServices({ ...gcpInputs().settings.gcp, budget: undefined });
const WELL: CloudFacts = {
  stack: "prod",
  block: "gcp",
  project: "team-ml",
  region: "us-central1",
  zones: ["us-central1-a", "us-central1-b"],
  gpus: ["L4", "A100-40"],
  provisioning: "spot",
  services: SERVICES,
  gcloud: true,
  account: "me@example.com",
  applicationDefault: true,
  found: true,
  enabled: SERVICES.map((service) => `${service}.googleapis.com`),
  regional: [
    { metric: "PREEMPTIBLE_NVIDIA_L4_GPUS", limit: 1, usage: 0 },
    { metric: "PREEMPTIBLE_NVIDIA_A100_GPUS", limit: 2, usage: 1 },
  ],
  global: [{ metric: "GPUS_ALL_REGIONS", limit: 1, usage: 0 }],
  offered: new Map([
    ["g2-standard-8", ["us-central1-a", "us-central1-b"]],
    ["a2-highgpu-1g", ["us-central1-a"]],
  ]),
};

function wantedOf(inputs: StackInputs): CloudWanted {
  const wanted = cloudWanted(inputs);
  if (wanted === undefined) throw new Error("the stack wants nothing of Google Cloud");
  return wanted;
}

const told = (changes: Partial<CloudFacts>) =>
  cloudChecks({ ...WELL, ...changes })
    .filter(({ status }) => status !== "ok")
    .map(({ name, status, remedy }) => [name, status, remedy]);

describe("a project of Google's", () => {
  test("that has everything is well", () => {
    expect(told({})).toEqual([]);
    expect(cloudChecks(WELL).map(({ name }) => name)).toEqual([
      ...["gcloud", "Pulumi's login", "project", "APIs", "GPU quota", "quota L4", "quota A100-40"],
      ...["zones L4", "zones A100-40"],
    ]);
  });

  const MENDED: readonly (readonly [string, Partial<CloudFacts>, string, "warn" | "fail", string])[] = [
    ["gcloud", { gcloud: false }, "gcloud", "fail", "curl -fsSL https://sdk.cloud.google.com | bash"],
    ["a login", { account: undefined }, "gcloud", "fail", "gcloud auth login"],
    [
      "Pulumi's login",
      { applicationDefault: false },
      "Pulumi's login",
      "fail",
      "gcloud auth application-default login",
    ],
    ["the project", { found: false }, "project", "fail", "gcloud projects list"],
    [
      "an API",
      { enabled: WELL.enabled?.filter((name) => !name.startsWith("iap")) },
      "APIs",
      "warn",
      "gcloud services enable iap.googleapis.com --project team-ml",
    ],
    [
      "any GPU",
      { global: [{ metric: "GPUS_ALL_REGIONS", limit: 0, usage: 0 }] },
      "GPU quota",
      "fail",
      "--quota-id GPUS-ALL-REGIONS-per-project --preferred-value 1;",
    ],
    [
      "one of two kinds of GPU",
      {
        regional: [
          { metric: "PREEMPTIBLE_NVIDIA_L4_GPUS", limit: 1, usage: 0 },
          { metric: "NVIDIA_A100_GPUS", limit: 1, usage: 1 },
        ],
      },
      "quota A100-40",
      "warn",
      "--quota-id PREEMPTIBLE-NVIDIA-A100-GPUS-per-project-region --preferred-value 1 --dimensions region=us-central1",
    ],
    [
      "the only kind of GPU",
      { gpus: ["L4"], regional: [{ metric: "PREEMPTIBLE_NVIDIA_L4_GPUS", limit: 1, usage: 1 }] },
      "quota L4",
      "fail",
      "--quota-id PREEMPTIBLE-NVIDIA-L4-GPUS-per-project-region",
    ],
    [
      "zones",
      { gpus: ["L4"], offered: new Map([["g2-standard-8", ["us-west1-a"]]]) },
      "zones L4",
      "fail",
      "it is in us-west1-a",
    ],
  ];

  test.each(MENDED)("without %s is told with what mends it", (_title, changes, name, status, remedy) => {
    const found = told(changes);
    expect(found.map(([what, how]) => [what, how])).toEqual([[name, status]]);
    expect(found[0]?.[2]).toContain(remedy);
  });

  test("takes spot from the ordinary quota where spot has none of its own", () => {
    expect(told({ gpus: ["L4"], regional: [{ metric: "NVIDIA_L4_GPUS", limit: 1, usage: 0 }] })).toEqual([]);
  });
});

describe("what gcloud is asked", () => {
  let fake: FakeGcloud;
  beforeEach(() => {
    fake = new FakeGcloud();
  });
  afterEach(() => fake.remove());

  test("is no more than what it can answer", async () => {
    fake.play({ answers: [{ when: "--version" }, { when: "auth list", stdout: "\n" }] });
    expect(await readCloud(wantedOf(gcpInputs()))).toMatchObject({ gcloud: true, account: undefined });
    expect(fake.calls).toHaveLength(2);
  });

  test("comes together as facts", async () => {
    const enabled = googleServices(gcpInputs().settings.gcp).map((service) => `${service}.googleapis.com`);
    fake.play({
      answers: [
        { when: "--version" },
        { when: "auth list", stdout: "me@example.com\n" },
        { when: "print-access-token", stdout: "a token" },
        { when: "projects describe team-ml", stdout: "team-ml\n" },
        { when: "services list --enabled --project team-ml", stdout: enabled.join("\n") },
        { when: "regions describe us-central1", stdout: JSON.stringify({ quotas: WELL.regional }) },
        { when: "project-info describe", stdout: JSON.stringify({ quotas: WELL.global }) },
        { when: "machine-types list", stdout: "g2-standard-8\tus-central1-a\ng2-standard-8\tus-central1-c\n" },
      ],
    });
    const facts = await readCloud(wantedOf(gcpInputs()));
    expect(facts).toMatchObject({ account: "me@example.com", found: true, enabled, regional: WELL.regional });
    expect(JSON.stringify(facts)).not.toContain("a token");
    expect(cloudChecks(facts).find(({ name }) => name === "zones L4")?.said).toBe(
      "us-central1-a, us-central1-c; not in us-central1-b",
    );
    expect(cloudChecks(facts).every(({ status }) => status === "ok")).toBe(true);
  });
});

describe("a cluster's stack", () => {
  test("wants each kind of GPU of its pools once, and the services that clusters need", () => {
    const pools = [
      { gpu: "L4", provisioning: "standard" },
      { gpu: "A100-40", provisioning: "spot" },
      { gpu: "L4", provisioning: "spot" },
      { gpu: "none" },
    ];
    const wanted = wantedOf(gkeInputs({ gke: { queue: { pools } } }));
    expect(wanted).toMatchObject({ block: "gke", gpus: ["L4", "A100-40"], provisioning: "spot" });
    expect(wanted.services).toEqual(expect.arrayContaining(["container", "file", "billingbudgets"]));
    expect(cloudWanted(kubernetesInputs())).toBeUndefined();
  });

  test("is told to install the plugin by which its cluster is reached", () => {
    const missing = ["cluster login", "fail", "gcloud components install gke-gcloud-auth-plugin"];
    expect(told({ block: "gke", clusterPlugin: false })).toEqual([missing]);
    expect(told({ block: "gke", clusterPlugin: true })).toEqual([]);
    expect(told({ block: "gke", clusterPlugin: true, found: false })[0]?.[2]).toContain("tunestack:gke.project");
  });
});
