import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { makePlan } from "../../stacks/plan/plan.ts";
import type { ImageReference } from "../../stacks/plan/types.ts";
import { composeText, renderCompose } from "../../stacks/targets/gcp-vm/render-compose.ts";
import { BOOT_OPTIONS } from "../lib/boot.ts";
import { gcpInputs } from "../lib/inputs.ts";
import { freePorts } from "../lib/ports.ts";
import { buildMachine, buildStage, composeProgram, docker, HOSTS } from "./vm-machine.ts";

/** Before every name, so that nobody's own containers and volumes are touched. */
const PREFIX = "tunestack-test-vm-";
const AGENT = `${PREFIX}agent`;
const TRAINING = `${PREFIX}agent-qlora-training`;
const STAGES = ["training", "dev", "monitor", "backup"] as const;

let folder: string;
let images: Readonly<Record<string, string>>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "tunestack-vm-"));
  await removeEverything();
  await buildMachine();
  const tags: [string, string][] = [];
  for (const stage of STAGES) tags.push([stage, await buildStage(stage)]);
  images = Object.fromEntries(tags);
  await startCloud();
});

afterAll(async () => {
  // What containers wrote is theirs.
  await docker("exec", AGENT, "bash", "-c", `rm -rf ${folder}/*`).catch(() => undefined);
  await removeEverything();
  await docker("rmi", ...Object.values(images ?? {})).catch(() => undefined);
  rmSync(folder, { recursive: true, force: true });
});

/** The containers and volumes of a VM that is gone; what is on its disk stays. */
async function removeMachine(): Promise<void> {
  const label = `label=com.docker.compose.project=${PREFIX}plan`;
  const list = async (...args: string[]) =>
    (await docker(...args, "--quiet", "--filter", label)).split("\n").filter((id) => id !== "");
  for (const id of await list("ps", "--all")) await docker("rm", "--force", "--volumes", id);
  for (const id of await list("volume", "ls")) await docker("volume", "rm", id);
  for (const id of await list("network", "ls")) await docker("network", "rm", id);
}

async function removeEverything(): Promise<void> {
  await removeMachine();
  await docker("rm", "--force", "--volumes", AGENT).catch(() => undefined);
}

/** Google, and the place where the agent runs as root with Docker's command line; the engine is this machine's. */
async function startCloud(): Promise<void> {
  await docker(
    ...["run", "--detach", "--name", AGENT, "--init", "--hostname", "tunestack-prod-x1"],
    ...["--volume", "/var/run/docker.sock:/var/run/docker.sock", "--volume", `${folder}:${folder}`],
    ...["--volume", `${await composeProgram()}:/usr/libexec/docker/cli-plugins/docker-compose:ro`],
    ...["--volume", `${join(PROJECT_DIR, "test/vm/fake_cloud.py")}:/cloud/fake_cloud.py:ro`],
    ...["--volume", `${join(PROJECT_DIR, "stacks/targets/gcp-vm/vm")}:/agent:ro`],
    ...HOSTS.flatMap((host) => ["--add-host", `${host}:127.0.0.1`]),
    ...["--entrypoint", "python3", await buildMachine(), "/cloud/fake_cloud.py", "/cloud/state", "/cloud/tls.pem"],
  );
  await inAgent(`mkdir -p ${folder}/backup`);
  await give("metadata/instance/name", "tunestack-prod-x1");
  await give("metadata/instance/machine-type", "projects/1/machineTypes/g2-standard-8");
  await give("secrets/tunestack-prod-restic-password", "one for the tests");
  await give("secrets/tunestack-prod-jupyter-token", "token-of-the-tests");
  const data = readFileSync(join(PROJECT_DIR, "examples/data/tunestack-help.jsonl"), "utf8");
  await give("bucket/inputs/data/tunestack-help.jsonl", data);
}

const inAgent = async (line: string) => await docker("exec", AGENT, "bash", "-c", line);

/** Writes a file of the fake cloud, whole or not at all. */
async function give(path: string, content: string): Promise<void> {
  const file = `/cloud/state/${path}`;
  writeFileSync(join(folder, "given"), content);
  await inAgent(`mkdir -p "$(dirname ${file})" && cp ${folder}/given ${file}.new && mv ${file}.new ${file}`);
}

/** The plan as a VM with the disk of `zone` finds it, under names and folders of the test. */
async function givePlan(zone: string): Promise<void> {
  const [jupyter, tensorboard, monitor] = await freePorts(3);
  const inputs = gcpInputs({
    secrets: ["restic-password", "jupyter-token"],
    settings: {
      accelerator: "cpu",
      profiles: ["training", "dev", "monitor"],
      training: { preset: "rehearsal", run: "on-a-vm", set: { max_steps: 3000, save_steps: 5 } },
      backup: { repository: "/backup/restic" },
      services: {
        jupyter: { port: jupyter },
        tensorboard: { port: tensorboard },
        "gpu-monitor": { port: monitor },
        "wandb-local": { enabled: false },
      },
    },
  });
  const image = (reference: ImageReference) =>
    reference.kind === "stage" ? (images[reference.stage] ?? "") : reference.reference;
  const text = composeText(renderCompose(makePlan(inputs), "prod@/project", { image }))
    .replaceAll("container_name: agent-", `container_name: ${PREFIX}agent-`)
    .replaceAll("name: training_", `name: ${PREFIX}training_`)
    .replaceAll("name: tunestack\n", `name: ${PREFIX}plan\n`)
    .replaceAll("/var/lib/tunestack", `${folder}/${zone}`)
    .replaceAll("/run/tunestack", `${folder}/run-${zone}`);
  await give("bucket/plan/compose.yaml", text);
}

/** A VM comes up in `zone`: its agent serves, with the disk of that zone. */
async function startMachine(zone: string): Promise<void> {
  await removeMachine();
  await give("metadata/instance/preempted", "FALSE");
  await give("metadata/instance/zone", `projects/1/zones/${zone}`);
  await inAgent("rm -f /cloud/state/bucket/status/vm.json");
  // The bucket of all zones is a folder here, since restic knows Google's own address alone.
  await inAgent(
    `mkdir -p ${folder}/${zone}/volumes && ln -sfn ${folder}/backup ${folder}/${zone}/volumes/training_backup`,
  );
  await givePlan(zone);
  const { agent: _, ...config } = { ...BOOT_OPTIONS, secrets: ["restic-password", "jupyter-token"] };
  const program = [
    "import sys, json; sys.path.insert(0, '/agent')",
    "import machine; from pathlib import Path",
    `machine.DATA, machine.RUN = Path('${folder}/${zone}'), Path('${folder}/run-${zone}')`,
    `machine.configuration = lambda: json.loads('${JSON.stringify(config)}')`,
    // The engine of this machine knows no registry of Google's; the boot script's test logs in.
    "import plan; plan.log_in = lambda _: None",
    "import agent; agent.POLL_SECONDS = 1.0; agent.main(['serve'])",
  ].join("\n");
  await docker(
    "exec",
    "--detach",
    "--env",
    `PROGRAM=${program}`,
    AGENT,
    "bash",
    "-c",
    'exec python3 -c "$PROGRAM" >> /agent.log 2>&1',
  );
}

interface RunStatus {
  readonly state: string;
  readonly step: number;
  readonly last_checkpoint: { readonly step: number } | null;
}

function runStatus(zone: string): RunStatus | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, zone, "volumes/training_logs/on-a-vm/status.json"), "utf8"));
  } catch {
    return undefined;
  }
}

const checkpoints = (zone: string) =>
  readdirSync(join(folder, zone, "volumes/training_checkpoints/on-a-vm"))
    .filter((name) => /^checkpoint-\d+$/.test(name))
    .map((name) => Number(name.split("-")[1]))
    .sort((a, b) => a - b);

async function status(): Promise<{ readonly stage: string; readonly message: string }> {
  return JSON.parse(await inAgent("cat /cloud/state/bucket/status/vm.json 2> /dev/null || echo '{}'"));
}

async function waitForUp(): Promise<string> {
  await expect.poll(async () => await status(), { timeout: 240_000, interval: 500 }).toMatchObject({ stage: "up" });
  return (await status()).message;
}

/** The run writes its status from the first step on that it takes here. */
async function waitForStep(zone: string, step: number): Promise<void> {
  await expect
    .poll(() => (runStatus(zone)?.state === "training" ? (runStatus(zone)?.step ?? 0) : 0), {
      timeout: 240_000,
      interval: 200,
    })
    .toBeGreaterThanOrEqual(step);
}

interface Preemption {
  readonly message: string;
  /** From the notice to SIGTERM, and to the end of what the agent does. */
  readonly signalled: number;
  readonly seconds: number;
}

/** Google's notice, and what the agent makes of it. */
async function preempt(): Promise<Preemption> {
  const began = Date.now();
  await give("metadata/instance/preempted", "TRUE");
  await expect.poll(async () => await status(), { timeout: 60_000, interval: 100 }).toMatchObject({ stage: "going" });
  const ended = Date.now();
  const period = ["--since", String(began / 1000), "--until", String(ended / 1000)];
  const wanted = ["--filter", `container=${TRAINING}`, "--filter", "event=kill", "--format", "{{.TimeNano}}"];
  const killed = Number((await docker("events", ...period, ...wanted)).split("\n")[0]) / 1e6;
  return { message: (await status()).message, signalled: (killed - began) / 1000, seconds: (ended - began) / 1000 };
}

const SAVED = /^preempted; training stopped with a checkpoint in ([\d.]+) s; snapshot [0-9a-f]+ taken in ([\d.]+) s$/;
/** On a machine with far more to do than it can, a step may take longer than a run is waited for. */
const KILLED =
  /^preempted; training stopped by force: its last whole checkpoint is the newest in 1[89].+; snapshot [0-9a-f]+ taken/;
const expectedEnd = () =>
  (loadavg()[0] ?? 0) / availableParallelism() > 4 ? new RegExp(`${SAVED.source}|${KILLED.source}`) : SAVED;

describe("the plan on a machine that may be taken away at any time", () => {
  let first: number;

  test("comes up service by service, and trains", async () => {
    await startMachine("us-central1-a");
    expect(await waitForUp()).toBe("the services are up; the run is starting");
    await waitForStep("us-central1-a", 6);
    const services = ["gpu-monitor", "jupyter", "tensorboard", "training-backup"];
    await expect
      .poll(
        async () => {
          const shown = await docker("ps", "--filter", "health=healthy", "--format", "{{.Names}}");
          return services.filter((name) => !shown.includes(`${PREFIX}agent-${name}\n`));
        },
        { timeout: 240_000, interval: 500 },
      )
      .toEqual([]);
  });

  test("saves the run and a snapshot within the notice of half a minute", async () => {
    const before = runStatus("us-central1-a")?.step ?? 0;
    const { message, signalled, seconds } = await preempt();
    console.log(
      `SIGTERM ${signalled.toFixed(1)} s after the notice, all saved after ${seconds.toFixed(1)} s: ${message}`,
    );
    expect(message).toMatch(expectedEnd());
    expect(signalled).toBeLessThan(10);
    expect(seconds).toBeLessThan(30);
    first = checkpoints("us-central1-a").at(-1) ?? 0;
    expect(first).toBeGreaterThan(0);
    if (SAVED.test(message)) {
      expect(await docker("inspect", "--format", "{{.State.ExitCode}}", TRAINING)).toBe("75\n");
      expect(first).toBeGreaterThanOrEqual(before);
    }
    // The agent has nothing more to do, and starts nothing again.
    await expect.poll(async () => await inAgent("pgrep -f [a]gent.main || true"), { timeout: 10_000 }).toBe("");
    expect(await inAgent("cat /cloud/state/bucket/status/ended-run 2> /dev/null || echo none")).toBe("none\n");
  });

  test("goes on from the disk where it comes back to it", async () => {
    await startMachine("us-central1-a");
    expect(await waitForUp()).toBe("the services are up; the run is starting");
    // Far enough for a checkpoint of its own.
    await waitForStep("us-central1-a", first + 8);
    expect(await docker("logs", TRAINING)).toContain(`checkpoint-${first}`);
    expect((await preempt()).message).toMatch(expectedEnd());
  });

  test("goes on from the bucket's snapshot where it comes up in another zone, whose disk knows less", async () => {
    const newest = checkpoints("us-central1-a").at(-1) ?? 0;
    expect(newest).toBeGreaterThan(first);
    // It was in that zone before: an older checkpoint is there.
    const older = checkpoints("us-central1-a")[0] ?? 0;
    const run = "volumes/training_checkpoints/on-a-vm";
    await inAgent(
      `cd ${folder} && mkdir -p us-central1-b/${run} && chown 1000:1000 us-central1-b/volumes/training_checkpoints us-central1-b/${run} &&
      cp -a us-central1-a/${run}/checkpoint-${older} us-central1-b/${run}/`,
    );
    await startMachine("us-central1-b");
    expect(await waitForUp()).toMatch(/the run is starting, from snapshot [0-9a-f]+, which is newer than this disk$/);
    await waitForStep("us-central1-b", newest + 1);
    expect(await docker("logs", TRAINING)).toContain(`checkpoint-${newest}`);
  });
});
