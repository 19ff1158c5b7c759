import { readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { EXIT, UserError } from "../../scripts/lib/errors.ts";
import { explainKnownGcloud, quotaRemedy } from "../../scripts/lib/gcloud/errors.ts";
import { gcloud } from "../../scripts/lib/gcloud/gcloud.ts";
import { costText, runCost } from "../../scripts/lib/gcloud/run-cost.ts";
import { takeCloudSecrets } from "../../scripts/lib/gcloud/secrets.ts";
import { awaitPlan, findVm } from "../../scripts/lib/gcloud/vm.ts";
import { tunnelArguments } from "../../scripts/lib/gcloud/vm-tunnel.ts";
import { openVm } from "../../scripts/lib/gcloud/vm-workloads.ts";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { machinePrice, regionOf } from "../../stacks/settings/gcp-prices.ts";
import { GPU_TYPES } from "../../stacks/settings/gpu-types.ts";
import { secretsFolder } from "../../stacks/settings/load.ts";
import { CLOUD_STACK, FakeGcloud, fakeEngine, NO_VM, ONE_VM, PLAN, vmStatus } from "../lib/fake-gcloud.ts";
import { gcpInputs } from "../lib/inputs.ts";
import { freePorts } from "../lib/ports.ts";

const CLOUD = { project: "team-ml", stack: "prod" };
let fake: FakeGcloud;

beforeEach(() => {
  fake = new FakeGcloud();
});

afterEach(() => fake.remove());

async function problemOf(call: () => Promise<unknown>): Promise<UserError> {
  const error = await call().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof UserError) return error;
  throw new Error(`no problem was reported but: ${error}`);
}

describe("what Google says is told with the command that mends it", () => {
  const SAID: readonly (readonly [string, string, string])[] = [
    [
      "ERROR: (gcloud.compute.instances.list) You do not currently have an active account selected.\nPlease run:\n\n  $ gcloud auth login",
      "gcloud",
      "gcloud auth login && gcloud auth application-default login",
    ],
    [
      "ERROR: (gcloud.x) PERMISSION_DENIED: Compute Engine API has not been used in project 12 before or it is disabled. Enable it by visiting https://console.developers.google.com/apis/api/compute.googleapis.com/overview?project=12",
      "project team-ml = compute.googleapis.com",
      "gcloud services enable compute.googleapis.com --project team-ml",
    ],
    [
      "API [iap.googleapis.com] not enabled on project [team-ml]. Would you like to enable and retry",
      "project team-ml = iap.googleapis.com",
      "gcloud services enable iap.googleapis.com --project team-ml",
    ],
    [
      "QUOTA_EXCEEDED: Quota 'PREEMPTIBLE_NVIDIA_L4_GPUS' exceeded.  Limit: 0.0 in region us-central1.",
      "quota PREEMPTIBLE_NVIDIA_L4_GPUS = 0 in us-central1",
      quotaRemedy("team-ml", "PREEMPTIBLE_NVIDIA_L4_GPUS", "us-central1"),
    ],
    [
      "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally.",
      "quota GPUS_ALL_REGIONS = 0",
      "--quota-id GPUS-ALL-REGIONS-per-project --preferred-value 1;",
    ],
    [
      "ZONE_RESOURCE_POOL_EXHAUSTED: The zone 'us-central1-a' does not have enough resources available to fulfill the request.",
      "zones",
      "npx pulumi config set --stack prod --path 'tunestack:gcp.gpus[1]' A100-40",
    ],
    [
      "ERROR: (gcloud.compute.start-iap-tunnel) Error while connecting [4033: 'not authorized'].",
      "gcp.access",
      "npx pulumi config set --stack prod --path 'tunestack:gcp.access[0]'",
    ],
    [
      "ERROR: (gcloud.x) Required 'compute.instanceGroupManagers.list' permission for 'projects/team-ml'",
      "project team-ml = compute.instanceGroupManagers.list",
      "gcloud projects add-iam-policy-binding team-ml",
    ],
    [
      "ERROR: The resource 'projects/team-ml/regions/us-central1/instanceGroupManagers/tunestack-prod' was not found",
      "stack prod",
      "npx pulumi refresh --stack prod",
    ],
    [
      "ERROR: Unable to find the server at compute.googleapis.com",
      "Google Cloud = Unable to find the server",
      "HTTPS_PROXY",
    ],
  ];

  test.each(SAID)("%s", (said, path, remedy) => {
    const message = explainKnownGcloud(CLOUD, said)?.message;
    expect(message).toContain(path);
    expect(message).toContain(remedy);
  });

  test("what is not known is shown by its end", async () => {
    fake.play({ answers: [{ when: "storage", stderr: "something new", exitCode: 1 }] });
    const { message, exitCode } = await problemOf(() => gcloud(CLOUD, ["storage", "ls"]));
    expect(message).toContain("ended with exit code 1:\n    something new");
    expect(exitCode).toBe(EXIT.machine);
  });

  test("a gcloud that is missing", async () => {
    process.env.PATH = "/nowhere";
    const { message } = await problemOf(() => gcloud(CLOUD, ["storage", "ls"]));
    expect(message).toMatch(/gcloud\s+is not installed/);
    expect(message).toContain("curl -fsSL https://sdk.cloud.google.com | bash");
  });
});

test("every call names the project and asks nothing", async () => {
  fake.play({ answers: [ONE_VM] });
  expect(await findVm(CLOUD_STACK)).toEqual({
    name: "tunestack-prod-x1",
    zone: "us-central1-b",
    status: "RUNNING",
    error: undefined,
  });
  expect(fake.calls).toEqual([
    "compute instance-groups managed list-instances tunestack-prod --region us-central1 --format json --project team-ml --quiet",
  ]);
});

describe("a plan in the bucket", () => {
  test("is waited for, and the VM woken where it went home", async () => {
    const answers = [
      PLAN,
      { ...NO_VM, times: 1 },
      { when: "resize tunestack-prod --size 1 --region us-central1" },
      ONE_VM,
      { ...vmStatus({ plan: "16" }), times: 1 },
      { ...vmStatus({ stage: "booting", message: "loading the NVIDIA driver" }), times: 2 },
      vmStatus(),
    ];
    fake.play({ answers });
    const told: string[] = [];
    const said = await awaitPlan(CLOUD_STACK, (message) => told.push(message), 1);
    expect(said).toBe("tunestack-prod-x1: the services are up");
    expect(told).toEqual([
      "waking the VM",
      "tunestack-prod-x1: the services are up",
      "tunestack-prod-x1: loading the NVIDIA driver",
    ]);
    expect(fake.calls.filter((call) => call.includes("resize"))).toHaveLength(1);
  });

  test("that the VM cannot run is told with the VM's own reason", async () => {
    const failed = vmStatus({ stage: "failed", message: "no driver", time: "2999-01-01T00:00:00Z" });
    fake.play({ answers: [PLAN, ONE_VM, failed] });
    const { message, exitCode } = await problemOf(() => awaitPlan(CLOUD_STACK, () => undefined, 1));
    expect(message).toMatch(/VM tunestack-prod-x1\s+no driver/);
    expect(message).toContain("gcloud compute instances get-serial-port-output tunestack-prod-x1");
    expect(exitCode).toBe(EXIT.stack);
  });

  test("that would end another run is told as refused", async () => {
    const message = "another run is in progress and was not replaced: npm run train-stop first";
    fake.play({ answers: [PLAN, ONE_VM, vmStatus({ message })] });
    const refused = await problemOf(() => awaitPlan(CLOUD_STACK, () => undefined, 1));
    expect(refused.exitCode).toBe(EXIT.refused);
    expect(refused.message).toContain("npm run train-stop -- --stack prod");
  });

  test("waits for a GPU, and says what stands in the way", async () => {
    const error = { code: "QUOTA_EXCEEDED", message: "Quota 'NVIDIA_L4_GPUS' exceeded.  Limit: 0.0 in region r1." };
    const instance = "https://x/zones/us-central1-b/instances/tunestack-prod-x1";
    const trying = JSON.stringify([{ instance, lastAttempt: { errors: { errors: [error] } } }]);
    fake.play({ answers: [PLAN, { when: "list-instances", stdout: trying, times: 2 }, ONE_VM, vmStatus()] });
    const told: string[] = [];
    await awaitPlan(CLOUD_STACK, (message) => told.push(message), 1);
    expect(told[0]).toContain("quota NVIDIA_L4_GPUS 0 in r1 is used up");
    expect(told[0]).toContain("gcloud beta quotas preferences create");
  });
});

describe("the tunnel", () => {
  const VM = { name: "vm-1", zone: "us-central1-b", status: "RUNNING", error: undefined };
  let engine: Server;
  let server: Server;

  beforeEach(async () => {
    engine = await fakeEngine(join(fake.folder, "engine.sock"), ({ url }, response) => {
      const found = url === "/containers/agent-jupyter/json";
      response.writeHead(found ? 200 : 404, { "content-type": "application/json" });
      response.end(JSON.stringify(found ? { State: { Running: true, Health: { Status: "healthy" } } } : {}));
    });
    server = createServer((_request, response) => response.end("jupyter of the VM"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });

  afterEach(() => {
    engine.close();
    server.close();
  });

  test("goes through Identity-Aware Proxy, ends with its input, and asks for a right to the engine's socket alone", () => {
    expect(tunnelArguments(CLOUD_STACK, VM, { kind: "engine", socket: "/tmp/x.sock" })).toEqual([
      ...[
        "compute",
        "ssh",
        "vm-1",
        "--zone",
        "us-central1-b",
        "--project",
        "team-ml",
        "--tunnel-through-iap",
        "--quiet",
      ],
      "--command",
      'sudo -n setfacl -m "u:$(id -un):rw" /var/run/docker.sock && echo tunestack-tunnel-open && exec cat',
      ...["--", "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15"],
      ...["-L", "/tmp/x.sock:/var/run/docker.sock"],
    ]);
    const port = tunnelArguments(CLOUD_STACK, VM, { kind: "port", local: 9000, remote: 8888 });
    expect(port.at(-1)).toBe("127.0.0.1:9000:127.0.0.1:8888");
    expect(port.join(" ")).not.toContain("sudo");
  });

  test("brings the VM's engine and its ports here, through everything that speaks to an engine", async () => {
    const { port } = server.address() as AddressInfo;
    fake.play({
      answers: [ONE_VM],
      forwards: { "/var/run/docker.sock": join(fake.folder, "engine.sock"), "8888": port },
    });
    const workloads = await openVm(CLOUD_STACK);
    expect((await workloads.state("agent-jupyter")).health).toBe("healthy");
    expect((await workloads.state("agent-other")).exists).toBe(false);
    const [local = 0] = await freePorts(1);
    const service = { container: "agent-jupyter", url: "http://127.0.0.1:8888/lab" };
    const { url, ended } = await workloads.reach(service, local);
    expect(url).toBe(`http://127.0.0.1:${local}/lab`);
    expect(await (await fetch(url)).text()).toBe("jupyter of the VM");
    expect(ended).toBeInstanceOf(Promise);
  });

  test("starts a run again that ended on an earlier VM: the note of its end goes, and the agent makes it anew", async () => {
    let made = false;
    engine.removeAllListeners("request").on("request", ({ url, method }, response) => {
      const there = url === "/containers/agent-qlora-training/json" && made;
      response.writeHead(there ? 200 : 404, { "content-type": "application/json" });
      if (method === "POST") made = true;
      response.end(JSON.stringify(there ? { State: { Running: true } } : { message: "no such container" }));
    });
    fake.play({
      answers: [ONE_VM, { when: "agent.py forget-end && sudo -n systemctl restart tunestack-agent" }],
      forwards: { "/var/run/docker.sock": join(fake.folder, "engine.sock") },
    });
    await (await openVm(CLOUD_STACK)).start("agent-qlora-training");
    expect(fake.calls.at(-1)).toContain("forget-end");
  });

  test("is tried again while the VM takes no logins yet", async () => {
    const refused = { when: "compute ssh", stderr: "[4003: 'failed to connect to backend']", exitCode: 255, times: 1 };
    fake.play({ answers: [ONE_VM, refused], forwards: { "/var/run/docker.sock": join(fake.folder, "engine.sock") } });
    expect((await (await openVm(CLOUD_STACK, 1)).state("agent-jupyter")).exists).toBe(true);
  });

  test("that nobody may open is told with what lets them in", async () => {
    fake.play({ answers: [ONE_VM, { when: "compute ssh", stderr: "[4033: 'not authorized']", exitCode: 255 }] });
    expect((await problemOf(() => openVm(CLOUD_STACK))).message).toContain("tunestack:gcp.access[0]");
  });

  test("leads nowhere where the VM went home, and the command that brings it back is told", async () => {
    const going = vmStatus({ stage: "going", message: "no training step for the time of gcp.idleShutdown" });
    fake.play({ answers: [NO_VM, going] });
    const { message } = await problemOf(() => openVm(CLOUD_STACK));
    expect(message).toContain("has no VM at the moment");
    expect(message).toContain("no training step for the time of gcp.idleShutdown");
    expect(message).toContain("--stack prod brings it back");
  });
});

describe("what a run costs", () => {
  const VM = { machineType: "g2-standard-8" };

  test("is its price by the hour, and its steps at the speed that was measured", () => {
    // 100 of 400 steps are done; 300 steps take 3 hours, so that all of them take 4.
    const cost = runCost(CLOUD_STACK, VM, { step: 100, max_steps: 400, eta_seconds: 3 * 3600 });
    expect(cost.left).toBeCloseTo(3 * 0.4799, 6);
    expect(cost.whole).toBeCloseTo(4 * 0.4799, 6);
    expect(costText(cost)).toBe(
      "$0.48 an hour on spot (standard $0.85; g2-standard-8, list price of 2026-07-30); the run $1.92 at this speed, $1.44 of it to go",
    );
    const standard = { ...CLOUD_STACK, cloud: { ...CLOUD_STACK.cloud, provisioning: "standard" as const } };
    expect(costText(runCost(standard, VM, undefined))).toBe(
      "$0.85 an hour on standard (spot $0.48; g2-standard-8, list price of 2026-07-30)",
    );
  });

  test("is not told where there is no price, nor of a run that has no speed yet", () => {
    expect(costText(runCost(CLOUD_STACK, { machineType: "x9-ultragpu-1g" }, undefined))).toBe(
      "price of x9-ultragpu-1g not known",
    );
    expect(runCost(CLOUD_STACK, VM, { step: 0, max_steps: 10, eta_seconds: null }).left).toBeUndefined();
    expect(runCost(CLOUD_STACK, VM, { step: 10, max_steps: 10, eta_seconds: 0 }).whole).toBeUndefined();
  });
});

test("every kind of GPU has a price in each region of its zones, on spot less than the standard one", () => {
  for (const [name, { machineType, accelerator, zones }] of Object.entries(GPU_TYPES)) {
    for (const zone of zones) {
      const { spot, standard } = machinePrice(machineType, regionOf(zone), accelerator) ?? { spot: 0, standard: 0 };
      expect(spot, `${name} in ${zone}`).toBeGreaterThan(0);
      expect(standard, `${name} in ${zone}`).toBeGreaterThan(spot);
    }
  }
  // A machine and the GPU that is attached to it.
  expect(machinePrice("n1-standard-8", "us-central1", "nvidia-tesla-t4")?.standard).toBeCloseTo(0.73, 6);
  expect(machinePrice("n1-standard-8", "us-central1", "nvidia-tesla-p4")).toBeUndefined();
});

describe("a cloud stack's secrets", () => {
  const STACK = "test-cloud-secrets";
  const folder = secretsFolder(PROJECT_DIR, STACK);
  const inputs = gcpInputs({ stack: STACK });
  const listed = { when: "secrets list", stdout: `tunestack-${STACK}-restic-password\ntunestack-other-hf-token\n` };
  const value = { when: `--secret tunestack-${STACK}-restic-password`, stdout: "the first one's\n" };

  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test("come into a clone that has none, each by its own name, and never in the place of one that it has", async () => {
    fake.play({ answers: [listed, value] });
    expect(await takeCloudSecrets(inputs)).toBe(1);
    expect(readdirSync(folder)).toEqual(["restic-password"]);
    expect(readFileSync(join(folder, "restic-password"), "utf8")).toBe("the first one's\n");
    const asked = fake.calls.length;
    expect(await takeCloudSecrets(inputs)).toBe(0);
    expect(fake.calls).toHaveLength(asked);
  });

  test("are left alone where Google cannot be asked", async () => {
    fake.play({ answers: [{ when: "secrets list", stderr: "gcloud auth login", exitCode: 1 }] });
    expect(await takeCloudSecrets(inputs)).toBe(0);
  });
});
