import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { renderJobSet } from "../../k8s/render-run.ts";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { podTemplates, RESOLVED, renderCluster } from "../lib/kubernetes.ts";
import { podContainer } from "./pod-container.ts";
import { buildStage, docker } from "./vm-machine.ts";

/**
 * A run on two nodes of a cluster, without a cluster: each pod that is rendered for it is a container with the pod's
 * name on one network, and the test does with those that end what the Job controller does by the rendered rules.
 */

const PREFIX = "tunestack-test-nodes-";
const NETWORK = `${PREFIX}network`;
const DATA = join(PROJECT_DIR, "examples", "data", "tunestack-help.jsonl");
const SETTINGS = { max_steps: 8, save_steps: 2, lora_r: 8 };

let folder: string;
let image: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "tunestack-nodes-"));
  chmodSync(folder, 0o755);
  await removeEverything();
  image = await buildStage("training");
  await docker("network", "create", NETWORK);
});

afterAll(async () => {
  await removeEverything();
  if (image !== undefined) await docker("rmi", image);
  rmSync(folder, { recursive: true, force: true });
});

async function removeEverything(): Promise<void> {
  const list = async (...args: string[]) =>
    (await docker(...args, "--filter", `name=${PREFIX}`)).split("\n").filter((name) => name !== "");
  for (const name of await list("ps", "--all", "--format", "{{.Names}}")) await docker("rm", "--force", name);
  for (const name of await list("volume", "ls", "--quiet")) await docker("volume", "rm", name);
  for (const name of await list("network", "ls", "--format", "{{.Name}}")) await docker("network", "rm", name);
}

const rule = z.object({
  action: z.enum(["Ignore", "FailJob"]),
  onPodConditions: z.array(z.object({ type: z.literal("DisruptionTarget") })).optional(),
  onExitCodes: z.object({ values: z.array(z.int()) }).optional(),
});
const jobSetSchema = z.object({
  metadata: z.object({ name: z.string() }),
  spec: z.object({
    network: z.object({ subdomain: z.string() }),
    replicatedJobs: z.tuple([
      z.object({
        name: z.string(),
        template: z.object({
          spec: z.object({ completions: z.int(), podFailurePolicy: z.object({ rules: z.array(rule) }) }),
        }),
      }),
    ]),
  }),
});

/** A run on two nodes, as it is rendered for a cluster. */
class PairOfNodes {
  readonly #jobSet: z.output<typeof jobSetSchema>;
  readonly #args: readonly string[];
  readonly #graceSeconds: number;
  /** Lines of containers that are no more. */
  #said = "";

  constructor(run: string, set: Readonly<Record<string, string | number>> = SETTINGS) {
    const { plan, layout } = renderCluster({
      kubernetes: { run: { nodes: 2, cpus: 1 }, queue: { pools: [{ gpu: "none" }] } },
      settings: { profiles: ["training"], training: { run, preset: "rehearsal", set } },
      secrets: [],
    });
    if (plan.run === undefined) throw new Error("the stack has no run");
    const object = renderJobSet(plan.run, layout, { ...RESOLVED, image: () => image });
    const [template] = podTemplates(object);
    if (template === undefined) throw new Error("the run has no pod");
    const place = { prefix: PREFIX, folder, input: readFileSync(DATA, "utf8") };
    const { args, graceSeconds } = podContainer(template, place);
    this.#jobSet = jobSetSchema.parse(object);
    this.#args = args;
    this.#graceSeconds = graceSeconds;
  }

  /** Starts the pod of a node, under the name by which JobSet's headless service makes it known. */
  async start(index: number): Promise<void> {
    const { name, subdomain } = { ...this.#jobSet.metadata, ...this.#jobSet.spec.network };
    const hostname = `${name}-${this.#jobSet.spec.replicatedJobs[0].name}-0-${index}`;
    const known = ["--hostname", hostname, "--network", NETWORK, "--network-alias", `${hostname}.${subdomain}`];
    await docker("run", "--detach", "--name", this.container(index), ...known, ...this.#args);
  }

  async startBoth(): Promise<void> {
    expect(this.#jobSet.spec.replicatedJobs[0].template.spec.completions).toBe(2);
    await Promise.all([this.start(0), this.start(1)]);
  }

  container(index: number): string {
    return `${PREFIX}${this.#jobSet.metadata.name}-${index}`;
  }

  /** What both have said, in all their lives. */
  async said(): Promise<string> {
    const logs = await Promise.all([0, 1].map(async (index) => await this.#logs(index)));
    return this.#said + logs.join("");
  }

  async #logs(index: number): Promise<string> {
    const logs = promisify(execFile)("docker", ["logs", this.container(index)]);
    return await logs.then(
      ({ stdout, stderr }) => stdout + stderr,
      () => "",
    );
  }

  /** Waits until training has done a step, whichever of the nodes tells. */
  async reaches(step: number): Promise<void> {
    await expect
      .poll(async () => await this.said(), { timeout: 240_000, interval: 200 })
      .toMatch(new RegExp(`step ${step}/${SETTINGS.max_steps}`));
  }

  /** Takes a node away, as when its machine is gone. */
  async lose(index: number): Promise<void> {
    const said = await this.#logs(index);
    await docker("rm", "--force", this.container(index));
    this.#said += said;
  }

  /** Asks the pod of a node to stop, as when its machine is about to go. */
  async evict(index: number): Promise<number> {
    await docker("stop", "--time", String(this.#graceSeconds), this.container(index));
    return await this.ended(index);
  }

  /** Waits for the pod of a node; gives its exit code and removes it. */
  async ended(index: number): Promise<number> {
    const code = Number(await docker("wait", this.container(index)));
    await this.lose(index);
    return code;
  }

  /** What the Job controller does about a pod that ended with this code: the first rule that fits says so. */
  actionOn(code: number): "Succeed" | "Ignore" | "FailJob" | "Count" {
    if (code === 0) return "Succeed";
    const { rules } = this.#jobSet.spec.replicatedJobs[0].template.spec.podFailurePolicy;
    return rules.find(({ onExitCodes }) => onExitCodes?.values.includes(code) === true)?.action ?? "Count";
  }

  /** Hash of the adapter that the run ended with. */
  async adapter(): Promise<string> {
    const file = `/checkpoints/${this.#jobSet.metadata.name}/adapter/adapter_model.safetensors`;
    const volume = `type=volume,source=${PREFIX}training-checkpoints,target=/checkpoints,readonly`;
    const text = await docker("run", "--rm", "--mount", volume, image, "base64", file);
    return createHash("sha256").update(text).digest("hex");
  }
}

describe("a run on two nodes", () => {
  let unbroken: string;
  let pair: PairOfNodes;

  beforeAll(async () => {
    const whole = new PairOfNodes("unbroken");
    await whole.startBoth();
    const codes = await Promise.all([whole.ended(0), whole.ended(1)]);
    expect(codes, await whole.said()).toEqual([0, 0]);
    unbroken = await whole.adapter();
    // One speaks for both, whichever was given the first number.
    const said = await whole.said();
    expect(said).toContain("x 2 processes =");
    expect(said.match(/unbroken finished: 8 steps/g)).toHaveLength(1);
  });

  /** Both are started again and end well, with the bytes of the run that nothing happened to. */
  async function goesOn(): Promise<void> {
    await pair.startBoth();
    const codes = await Promise.all([pair.ended(0), pair.ended(1)]);
    expect(codes, await pair.said()).toEqual([0, 0]);
    expect(await pair.said()).toMatch(/going on after step \d/);
    expect(await pair.adapter()).toBe(unbroken);
  }

  test.each([
    ["the second", 1, 0],
    ["the first, where they meet", 0, 1],
  ])("goes on when %s is lost: the other ends too, and neither is called a mistake", async (_title, gone, left) => {
    pair = new PairOfNodes(`lost-${gone}`);
    await pair.startBoth();
    await pair.reaches(3);
    await pair.lose(gone);
    const code = await pair.ended(left);
    expect(pair.actionOn(code), `${code}: ${await pair.said()}`).toBe("Ignore");
    await goesOn();
  });

  test("is stopped whole when one node is about to go, with a checkpoint, and goes on", async () => {
    pair = new PairOfNodes("evicted");
    await pair.startBoth();
    await pair.reaches(3);
    const [first, second] = await Promise.all([pair.ended(0), pair.evict(1)]);
    expect([first, second], await pair.said()).toEqual([75, 75]);
    expect(pair.actionOn(first)).toBe("Ignore");
    expect((await pair.said()).match(/stopped on request after step/g)).toHaveLength(1);
    await goesOn();
  });

  test("ends at once and for good when its settings are wrong", async () => {
    // Each is allowed, and the two together are not, which the package alone knows.
    pair = new PairOfNodes("mistaken", { precision: "fp16", device: "cpu" });
    await pair.startBoth();
    const codes = await Promise.all([pair.ended(0), pair.ended(1)]);
    expect(
      codes.map((code) => pair.actionOn(code)),
      `${codes}: ${await pair.said()}`,
    ).toEqual(["FailJob", "FailJob"]);
    expect(await pair.said()).toContain("precision");
  });

  test("can be stopped while one of its nodes waits for the other", async () => {
    pair = new PairOfNodes("waiting");
    await pair.start(0);
    // Its store takes calls: from then on it waits.
    const listens = "import socket; socket.create_connection((socket.gethostname(), 29500), 1).close()";
    await expect
      .poll(
        async () =>
          await docker("exec", pair.container(0), "python", "-c", listens).then(
            () => "yes",
            () => "no",
          ),
        {
          timeout: 120_000,
          interval: 500,
        },
      )
      .toBe("yes");
    const asked = Date.now();
    expect(await pair.evict(0)).toBe(75);
    expect((Date.now() - asked) / 1000).toBeLessThan(10);
  });
});
