import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { makePlan } from "../../stacks/plan/plan.ts";
import { agentModules } from "../../stacks/targets/gcp-vm/declare.ts";
import { DOCKER_KEY, renderBoot, TOOLKIT_KEY } from "../../stacks/targets/gcp-vm/render-boot.ts";
import { composeText, renderCompose } from "../../stacks/targets/gcp-vm/render-compose.ts";
import { BOOT_OPTIONS } from "../lib/boot.ts";
import { gcpInputs } from "../lib/inputs.ts";
import { buildMachine, buildStage, docker, Machine, whyNoMachine } from "./vm-machine.ts";

const SECRET = "pa55word-that-nobody-may-see";
const TOKEN = "the-token-of-the-vm";

const machine = new Machine("tunestack-test-vm-boot");
let script: string;
let missing: string | undefined;

beforeAll(async () => {
  await buildMachine();
  missing = await whyNoMachine();
  if (missing !== undefined) return;
  const images = { monitor: await buildStage("monitor"), backup: await buildStage("backup") };
  await machine.create(Object.values(images));
  await docker("rmi", ...Object.values(images));
  const settings = {
    profiles: ["monitor"],
    backup: { repository: "/backup/restic" },
    services: { "wandb-local": { enabled: false } },
  };
  const plan = makePlan(gcpInputs({ secrets: ["restic-password"], settings }));
  const image = (reference: { readonly kind: string; readonly stage?: string }) =>
    reference.stage === "monitor" ? images.monitor : images.backup;
  script = renderBoot({ ...BOOT_OPTIONS, agent: agentModules() });
  await machine.metadata({
    "instance/name": "tunestack-prod-x1",
    "instance/zone": "projects/1/zones/us-central1-b",
    "instance/machine-type": "projects/1/machineTypes/g2-standard-8",
    "instance/preempted": "FALSE",
    "instance/attributes/startup-script": script,
  });
  await machine.give("bucket/plan/compose.yaml", composeText(renderCompose(plan, "prod@/project", { image })));
  await machine.give("secrets/tunestack-prod-restic-password", SECRET);
});

afterAll(async () => await machine.dispose());

beforeEach((context) => {
  if (missing !== undefined) context.skip(missing);
});

const containers = async () => await machine.run("docker ps --all --format '{{.Names}} {{.ID}} {{.RunningFor}}'");
const startedAt = async () =>
  await machine.run("docker inspect --format '{{.Name}} {{.State.StartedAt}}' $(docker ps --quiet)");

/** The startup script fails, and says why on the console and in the bucket; the VM will be given back. */
async function expectFailure(reason: RegExp): Promise<void> {
  expect(await machine.startUp()).toBe(false);
  const { stage, message } = await machine.status();
  expect(stage).toBe("failed");
  expect(message).toMatch(reason);
  expect(message).toMatch(/line \d+ of the boot script; the VM goes in 30 min/);
  expect(await machine.console()).toContain("tunestack: failed: ");
  expect(await machine.run("systemctl is-active tunestack-give-up.timer")).toBe("active\n");
}

describe("a boot that fails says which step, why, and what was said last", () => {
  test("a disk that Google does not attach", async () => {
    await machine.give("attach-error", '{"error": {"message": "Required \'compute.disks.use\' permission"}}');
    await expectFailure(
      /^attaching the data disk.*tunestack-prod-data-us-central1-b could not be attached.*disks\.use/s,
    );
    await machine.takeAway("attach-error");
  });

  test("a disk that holds something else is not formatted", async () => {
    await machine.run("head -c 64M /dev/urandom > /cloud/disk && sha256sum /cloud/disk > /cloud/before");
    await expectFailure(/^mounting the data disk.*holds something that is no file system/s);
    await machine.run("sha256sum --check --quiet /cloud/before");
    await machine.run("touch /cloud/state/detach; sleep 0.5; rm -f /cloud/state/detach /dev/disk/by-id/*");
    await machine.run("rm /cloud/disk && truncate --size 64M /cloud/disk");
  });

  test("a repository whose key is another one", async () => {
    await expectFailure(
      new RegExp(
        `^adding the package repositories.*the key at https://download\\.docker\\.com.*and not ${DOCKER_KEY}`,
        "s",
      ),
    );
    const fingerprint = (await machine.run("cat /cloud/fingerprint")).trim();
    script = script.replaceAll(DOCKER_KEY, fingerprint).replaceAll(TOOLKIT_KEY, fingerprint);
    await machine.metadata({ "instance/attributes/startup-script": script });
  });

  test("a driver that does not load", async () => {
    await machine.give("driver-fails", "");
    await expectFailure(/^loading the NVIDIA driver.*Key was rejected by service/s);
    await machine.takeAway("driver-fails");
  });

  test("a GPU that containers do not get", async () => {
    await machine.give("gpu-fails", "");
    await expectFailure(/^proving the GPU in a container.*nvml error: driver not loaded/s);
    await machine.takeAway("gpu-fails");
    expect(await containers()).not.toContain("agent-");
  });
});

describe("a boot that goes well", () => {
  test("ends with the agent, which names a secret that it may not read", async () => {
    await machine.give("denied/tunestack-prod-restic-password", "");
    expect(await machine.startUp()).toBe(true);
    await expect
      .poll(async () => await machine.status(), { timeout: 120_000 })
      .toMatchObject({
        stage: "failed",
        message: expect.stringMatching(/may not read tunestack-prod-restic-password/),
      });
    await machine.takeAway("denied/tunestack-prod-restic-password");
    expect(await machine.run("systemctl is-active tunestack-give-up.timer || true")).toBe("inactive\n");
  });

  test("brings the services up by the real Compose, with the GPU, and healthy", async () => {
    await machine.run("systemctl restart tunestack-agent.service");
    await expect
      .poll(async () => await machine.status(), { timeout: 180_000 })
      .toMatchObject({ stage: "up", zone: "us-central1-b", message: "the services are up" });
    await expect
      .poll(async () => await machine.run("docker ps --filter health=healthy --format '{{.Names}}' | sort"), {
        timeout: 180_000,
      })
      .toBe("agent-gpu-monitor\nagent-training-backup\n");
    const asked = await machine.run("docker inspect --format '{{json .HostConfig.DeviceRequests}}' agent-gpu-monitor");
    expect(JSON.parse(asked)).toMatchObject([{ Driver: "nvidia", Count: -1, Capabilities: [["gpu"]] }]);
  });

  test("has put the secret into memory, for its container's user alone, and told it nobody", async () => {
    const file = "/run/tunestack/secrets/restic-password";
    expect(
      await machine.run(`stat --format '%a %u' ${file} && findmnt --target ${file} -no FSTYPE && cat ${file}`),
    ).toBe(`400 1000\ntmpfs\n${SECRET}`);
    const shown = [
      await machine.console(),
      await machine.run("journalctl --no-pager; cat /run/tunestack/boot.log /run/tunestack/compose.yaml"),
      await machine.run("docker inspect $(docker ps --quiet); docker logs agent-training-backup 2>&1"),
      await machine.run("grep -rsl . /cloud/state/bucket | xargs cat; cat /cloud/state/requests"),
      await machine.run("grep -rs pa55word /etc /var/lib/tunestack /var/log /opt /root || true"),
    ].join("\n");
    expect(shown).not.toContain(SECRET);
    expect(shown).not.toContain(TOKEN);
  });

  test("keeps volumes on the data disk", async () => {
    expect(await machine.run("findmnt --noheadings --output FSTYPE,OPTIONS /var/lib/tunestack")).toMatch(
      /^ext4 .*nosuid,nodev/,
    );
    expect(await machine.run("stat --format '%u' /var/lib/tunestack/volumes/training_checkpoints")).toBe("1000\n");
  });

  test("run again by hand, it restarts nothing that runs", async () => {
    const before = await startedAt();
    const asked = (await machine.requests()).length;
    expect(await machine.startUp()).toBe(true);
    await expect
      .poll(async () => await machine.console(), { timeout: 120_000 })
      .toMatch(/the services are up.*starting the services.*the services are up/s);
    expect(await startedAt()).toBe(before);
    expect((await machine.requests()).slice(asked)).not.toMatch(/attachDisk|archive\.ubuntu|download\.docker/);
  });
});

describe("a restart of the machine", () => {
  test("saves first, then finds everything where it was", async () => {
    await machine.run("echo kept > /var/lib/tunestack/volumes/training_checkpoints/note");
    const asked = (await machine.requests()).length;
    await docker("stop", "--time", "60", machine.name);
    expect(await machine.console()).toMatch(/tunestack: going: the machine shuts down; nothing was training/);
    await docker("start", machine.name);
    // Docker waits for the disk and the secrets, which come later.
    await expect
      .poll(async () => await machine.run("cat /cloud/state/bucket/status/vm.json").catch(() => ""), {
        timeout: 180_000,
        interval: 500,
      })
      .toContain('"message": "the services are up"');
    const since = (await machine.requests()).slice(asked);
    expect(since).not.toMatch(/archive\.ubuntu|download\.docker|nvidia\.github/);
    expect(since).toContain("/attachDisk");
    expect(await machine.run("cat /var/lib/tunestack/volumes/training_checkpoints/note")).toBe("kept\n");
    await expect
      .poll(async () => await machine.run("docker ps --filter health=healthy --quiet | wc --lines"), {
        timeout: 180_000,
      })
      .toBe("2\n");
    expect(await machine.run("systemctl is-enabled docker.service docker.socket || true")).toBe("disabled\ndisabled\n");
    const times = await machine.run(
      "systemctl show --property ExecMainStartTimestampMonotonic --value startup.service docker.service",
    );
    const [script = 0, engine = 0] = times
      .split("\n")
      .filter((line) => line !== "")
      .map(Number);
    expect(script).toBeGreaterThan(0);
    expect(engine).toBeGreaterThan(script);
  });

  test("for a kernel that the driver is made for happens once, and then it says so", async () => {
    await machine.give("kernel", "6.11.0-9-gcp\n");
    await machine.startUp().catch(() => false);
    await expect
      .poll(async () => await docker("inspect", "--format", "{{.State.Running}}", machine.name), { timeout: 180_000 })
      .toBe("false\n");
    expect(await machine.console()).toContain("taking a kernel that the NVIDIA driver is made for, and restarting");
    await docker("start", machine.name);
    await expect
      .poll(async () => await machine.run("cat /cloud/state/bucket/status/vm.json").catch(() => ""), {
        timeout: 180_000,
        interval: 500,
      })
      .toContain("there is no NVIDIA driver 570-server for the kernel 6.11.0-9-gcp, also after a restart");
  });
});

describe("a machine whose time is over", () => {
  test("takes its group down before it does anything else", async () => {
    await machine.run("rm -f /cloud/state/kernel");
    const since = Date.now() / 1000 - 2 * 86400;
    const generation = await machine.run(
      'python3 -c \'import os; print(os.stat("/cloud/state/bucket/plan/compose.yaml").st_mtime_ns, end="")\'',
    );
    await machine.give("bucket/status/lease.json", JSON.stringify({ plan: generation, since }));
    const asked = (await machine.requests()).length;
    expect(await machine.startUp()).toBe(true);
    expect((await machine.requests()).slice(asked)).toContain("/instanceGroupManagers/tunestack-prod/resize?size=0");
    expect((await machine.requests()).slice(asked)).not.toContain("secretmanager");
    expect(await machine.status()).toMatchObject({ stage: "going", message: "the time of gcp.maximumRun is over" });
  });
});
