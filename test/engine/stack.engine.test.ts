import { execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { hostname, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { LocalWorkspace, PulumiCommand, Stack } from "@pulumi/pulumi/automation/index.js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { followRun } from "../../scripts/lib/follow.ts";
import { readOverview } from "../../scripts/lib/overview.ts";
import { setPersonal } from "../../scripts/lib/personal.ts";
import { PROJECT_DIR, PULUMI_HOME, PULUMI_ROOT, pulumiEnvironment } from "../../scripts/lib/project.ts";
import { explainPulumi } from "../../scripts/lib/pulumi-errors.ts";
import { readRunStatus } from "../../scripts/lib/run-status.ts";
import { secretFile } from "../../scripts/lib/setup/secrets.ts";
import { bringUp, openStack, readOutputs } from "../../scripts/lib/stack.ts";
import { startAndFollow, up } from "../../scripts/lib/train.ts";
import { waitForServices } from "../../scripts/lib/wait.ts";
import type { RunOutput, StackOutputs } from "../../stacks/outputs.ts";
import { getPersonal } from "../lib/personal-settings.ts";
import { freePorts } from "../lib/ports.ts";
import { keepPicture, openBrowser } from "./browser.ts";
import { ENGINE, freshStack, type TestStack } from "./test-stack.ts";

const silent = () => undefined;

let test1: TestStack;
let stack: Stack;
let outputs: StackOutputs;

beforeAll(async () => {
  test1 = await freshStack("test-engine");
  outputs = await up(test1.name);
  stack = await openStack(test1.name);
});

afterAll(async () => await test1?.remove());

const container = (service: string) => `${test1.prefix}agent-${service}`;
const url = (service: string) => outputs.services.find(({ name }) => name === service)?.url ?? "";
const run = (): RunOutput => {
  if (outputs.run === undefined) throw new Error("the stack has no run");
  return outputs.run;
};

/** Resources that an update touched, by their logical names, the stack's own apart. */
async function changedBy(body: () => Promise<unknown>): Promise<readonly string[]> {
  await body();
  const [last] = await stack.history(1);
  const changes = last?.resourceChanges ?? {};
  return Object.entries(changes)
    .filter(([kind, count]) => kind !== "same" && Number(count) > 0)
    .map(([kind, count]) => `${count} ${kind}`);
}

describe("the stack", () => {
  test("declares every service of the plan, and names the one whose image cannot be had", () => {
    const declared = [...outputs.services.map(({ name }) => name), ...outputs.leftOut.map(({ service }) => service)];
    expect(declared.sort()).toEqual(["gpu-monitor", "jupyter", "tensorboard", "training-backup", "wandb-local"]);
    for (const { reason } of outputs.leftOut) expect(reason).toMatch(/wandb\/local cannot be had/);
  });

  test("hardens every container", async () => {
    for (const service of ["jupyter", "tensorboard", "gpu-monitor", "training-backup", "qlora-training"]) {
      const { Config, HostConfig } = await ENGINE.client.getContainer(container(service)).inspect();
      expect(Config.User, service).toBe("1000:1000");
      expect(HostConfig.ReadonlyRootfs, service).toBe(true);
      expect(HostConfig.CapDrop, service).toEqual(["ALL"]);
      expect(HostConfig.SecurityOpt, service).toContain("no-new-privileges:true");
      expect(HostConfig.LogConfig, service).toMatchObject({ Type: "json-file", Config: { "max-size": "10m" } });
      expect(Config.Healthcheck?.Test?.[0], service).toBe("CMD");
      for (const bindings of Object.values(HostConfig.PortBindings ?? {})) {
        expect(bindings, service).toMatchObject([{ HostIp: "127.0.0.1" }]);
      }
    }
  });

  test("keeps secrets out of what the engine shows of its containers", async () => {
    const token = readFileSync(secretFile(test1.name, "jupyter-token"), "utf8").trim();
    const password = readFileSync(secretFile(test1.name, "restic-password"), "utf8").trim();
    for (const { Id } of await ENGINE.client.listContainers({ all: true, filters: { name: [`^/${test1.prefix}`] } })) {
      const shown = JSON.stringify(await ENGINE.client.getContainer(Id).inspect());
      expect(shown).not.toContain(token);
      expect(shown).not.toContain(password);
    }
    expect(JSON.stringify(await stack.exportStack())).not.toContain(token);
  });

  test("trains the rehearsal: the loss falls and the adapter verifies", async () => {
    const status = await startAndFollow(ENGINE, run());
    expect(status.state).toBe("completed");
    expect(status.step).toBe(30);
    expect(status.loss ?? Number.NaN).toBeLessThan((status.first_loss ?? 0) - 1.5);
    const verified = await ENGINE.run(container("training-backup"), [
      "python",
      "-c",
      "import pathlib; from tunestack_train.manifest import problems; print(problems(pathlib.Path('/checkpoints/first/adapter')))",
    ]);
    expect(verified.stdout.trim()).toBe("[]");
  });

  test("has every service healthy", async () => {
    await waitForServices(ENGINE, outputs);
    for (const { name, container: id } of outputs.services)
      expect((await ENGINE.state(id)).health, name).toBe("healthy");
  });

  test("changes nothing when nothing changed, and does not start the finished run again", async () => {
    const before = await ENGINE.state(run().container);
    expect(await changedBy(() => bringUp(stack, silent))).toEqual([]);
    await stack.refresh({ suppressProgress: true });
    expect(await changedBy(() => bringUp(stack, silent))).toEqual([]);
    expect(await ENGINE.state(run().container)).toEqual(before);
  });

  test("a dry run shows what is learnt of the data, and touches nothing of the stack", async () => {
    const before = await ENGINE.client.listContainers({ all: true });
    const command = ["scripts/run.mjs", "train-custom", "--stack", test1.name, "--preset", "rehearsal"];
    const data = "examples/data/formats/chat.json";
    const { stdout } = await promisify(execFile)("node", [...command, "--data", data, "--dry-run", "--json"], {
      cwd: PROJECT_DIR,
    });
    expect(JSON.parse(stdout)).toMatchObject({
      data: { format: "chat", rows: 5 },
      tokens: { examples: 5, dropped: { count: 0 } },
      samples: { first: [{ origin: "chat.json:2" }, {}, {}] },
      error: null,
    });
    const after = await ENGINE.client.listContainers({ all: true });
    expect(after.map(({ Id }) => Id).sort()).toEqual(before.map(({ Id }) => Id).sort());
  });

  test("touches one service alone when one service's setting changes", async () => {
    const ids = async () =>
      Object.fromEntries(
        await Promise.all(
          outputs.services.map(async ({ name, container: id }) => [
            name,
            (await ENGINE.client.getContainer(id).inspect()).Id,
          ]),
        ),
      ) as Record<string, string>;
    const before = await ids();
    const [port] = await freePorts(1);
    const services = getPersonal(test1.name, "services") as Record<string, object>;
    setPersonal(test1.name, { services: { ...services, tensorboard: { port } } });
    expect(await changedBy(() => bringUp(stack, silent))).toEqual(["1 replace"]);
    outputs = (await readOutputs(stack)) ?? outputs;
    const after = await ids();
    expect(Object.keys(after).filter((name) => after[name] !== before[name])).toEqual(["tensorboard"]);
    expect(url("tensorboard")).toContain(`:${port}/`);
  });
});

describe("the services", () => {
  test("jupyter takes the token and refuses without it", async () => {
    const address = new URL("/api/contents", url("jupyter"));
    const token = readFileSync(secretFile(test1.name, "jupyter-token"), "utf8").trim();
    expect((await fetch(address)).status).toBe(403);
    expect((await fetch(address, { headers: { Authorization: `token ${token}` } })).status).toBe(200);
    expect((await fetch(address, { headers: { Authorization: "token wrong" } })).status).toBe(403);
  });

  test("tensorboard shows the run's loss", async () => {
    await waitForServices(ENGINE, outputs);
    const address = new URL("/data/plugin/scalars/tags", url("tensorboard"));
    await expect
      .poll(async () => JSON.stringify(await (await fetch(address)).json()), { timeout: 60_000, interval: 1000 })
      .toMatch(/"first\/tensorboard":\{.*"train\/loss"/);
  });

  test("gpu_metrics.jsonl grows, and Prometheus is served", async () => {
    const lines = async () =>
      Number((await ENGINE.run(container("gpu-monitor"), ["sh", "-c", "wc -l < /logs/gpu_metrics.jsonl"])).stdout);
    const before = await lines();
    await expect.poll(lines, { timeout: 20_000, interval: 500 }).toBeGreaterThan(before);
    const metrics = await (await fetch(url("gpu-monitor"))).text();
    expect(metrics).toMatch(/^# TYPE tunestack_/m);
    expect((await readOverview(ENGINE, outputs)).device?.name).toBeTruthy();
  });
});

describe("the pages, in a browser", () => {
  let browser: Awaited<ReturnType<typeof openBrowser>>;
  beforeAll(async () => {
    browser = await openBrowser();
  });
  afterAll(async () => {
    if ("close" in browser) await browser.close();
  });

  test("JupyterLab opens with the token, and asks for it without", async (context) => {
    if ("missing" in browser) return context.skip(browser.missing);
    const page = await browser.newPage();
    await page.goto(url("jupyter"));
    expect(await page.getByText("Token authentication is enabled").count()).toBe(1);
    const token = readFileSync(secretFile(test1.name, "jupyter-token"), "utf8").trim();
    await page.goto(`${url("jupyter")}?token=${token}`);
    await page.getByText("Python 3 (ipykernel)").first().waitFor({ timeout: 60_000 });
    await keepPicture(page, "jupyter");
    await page.close();
  });

  test("TensorBoard draws the loss of the run", async (context) => {
    if ("missing" in browser) return context.skip(browser.missing);
    const page = await browser.newPage();
    await page.goto(`${url("tensorboard")}?tagFilter=train%2Floss#timeseries`);
    // The card's title is the tag, its group apart; its line is drawn on a canvas.
    await page.getByText("/loss", { exact: true }).first().waitFor({ timeout: 60_000 });
    expect(await page.getByText("first/tensorboard").count()).toBeGreaterThan(0);
    await keepPicture(page, "tensorboard");
    await page.close();
  });

  test("gpu-monitor's metrics are a page", async (context) => {
    if ("missing" in browser) return context.skip(browser.missing);
    const page = await browser.newPage();
    await page.goto(url("gpu-monitor"));
    expect(await page.innerText("body")).toContain("tunestack_");
    await page.close();
  });
});

describe("a run", () => {
  test("goes on from its newest checkpoint after a kill, and ends with the same loss", async () => {
    const first = await readRunStatus(ENGINE, run().container, "first");
    setPersonal(test1.name, { training: { run: "killed", preset: "rehearsal", set: { save_steps: 2 } } });
    outputs = await up(test1.name);
    // The engine starts a container again when its program is killed, and not when it is asked to kill it.
    await expect
      .poll(async () => (await readRunStatus(ENGINE, run().container, "killed"))?.last_checkpoint?.step ?? 0, {
        timeout: 180_000,
        interval: 100,
      })
      .toBeGreaterThanOrEqual(4);
    await ENGINE.run(run().container, ["python", "-c", "import os; os.kill(-1, 9)"]).catch(silent);
    const status = await followRun(ENGINE, run(), silent);
    expect(status.state).toBe("completed");
    expect((await ENGINE.state(run().container)).restarts).toBe(1);
    expect(await ENGINE.lastLines(run().container, 200)).toMatch(/checkpoint-\d+/);
    expect(status.loss).toBe(first?.loss);
  });

  test("is never replaced while it is in progress", async () => {
    setPersonal(test1.name, { training: { run: "long", preset: "rehearsal", set: { max_steps: 2000 } } });
    outputs = await up(test1.name);
    setPersonal(test1.name, { training: { run: "another", preset: "rehearsal" } });
    await expect(bringUp(stack, silent)).rejects.toThrow(/the run long is in progress and would be replaced/);
    expect((await ENGINE.state(run().container)).running).toBe(true);
  });

  test("stops cleanly, with a checkpoint and an exit code of its own", async () => {
    await expect
      .poll(async () => (await readRunStatus(ENGINE, run().container, "long"))?.step ?? 0, {
        timeout: 180_000,
        interval: 200,
      })
      .toBeGreaterThanOrEqual(2);
    await ENGINE.client.getContainer(run().container).stop({ t: 120 });
    const status = await readRunStatus(ENGINE, run().container, "long");
    expect((await ENGINE.state(run().container)).exitCode).toBe(75);
    expect(status?.state).toBe("stopped");
    expect(status?.last_checkpoint?.step).toBe(status?.step);
  });
});

describe("export", () => {
  const ended = async (args: readonly string[]) =>
    await new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
      const child = spawn("npm", ["run", "--silent", "export", "--", "--stack", test1.name, ...args], {
        cwd: PROJECT_DIR,
      });
      const said = { out: "", err: "" };
      child.stdout.on("data", (data) => {
        said.out += data;
      });
      child.stderr.on("data", (data) => {
        said.err += data;
      });
      child.once("exit", (code) => resolve({ code, ...said }));
    });

  test("makes files that another machine could load, compares them, and does not do it twice", async () => {
    const folder = join(mkdtempSync(join(tmpdir(), "tunestack-export-")), "first");
    try {
      const { code, out, err } = await ended(["--run", "first", "--to", folder, "--json"]);
      expect(code, err + out).toBe(0);
      const exported = JSON.parse(out) as { fresh: boolean; stages: { stage: string; from_adapter: { kl: number } }[] };
      expect(exported.fresh).toBe(true);
      expect(exported.stages.map(({ stage }) => stage)).toEqual(["base", "merged", "f16", "q8_0"]);
      expect(exported.stages.at(-1)?.from_adapter.kl).toBeLessThan(0.01);
      expect(readFileSync(join(folder, "first-q8_0.gguf")).subarray(0, 4).toString()).toBe("GGUF");
      expect(readFileSync(join(folder, "Modelfile"), "utf8")).toContain("FROM ./first-q8_0.gguf");
      const again = await ended(["--run", "first"]);
      expect(again.code, again.err).toBe(0);
      expect(again.err).toContain("exported before");
      expect(again.out).toMatch(/GGUF q8_0[\s\S]*next +npm run export -- --run first --to/);
    } finally {
      rmSync(dirname(folder), { recursive: true, force: true });
    }
  });

  test("says what is wrong without a trace, and leaves no container", async () => {
    const { code, err } = await ended(["--run", "first", "--checkpoint", "7"]);
    expect(code).toBe(2);
    expect(err).toMatch(/no complete checkpoint of that name[\s\S]*10, 20, 30/);
    expect(err).not.toMatch(/at .*\.ts:\d+/);
    const left = await ENGINE.client.listContainers({ all: true, filters: { name: [container("export-first")] } });
    expect(left).toEqual([]);
  });
});

describe("backup and restore", () => {
  const hashes = async () =>
    (
      await ENGINE.run(container("training-backup"), [
        "sh",
        "-c",
        "cd /checkpoints/first && find . -type f ! -name '.lock' | sort | xargs sha256sum",
      ])
    ).stdout;

  test("bring a lost run back byte for byte", async () => {
    const backup = ["python", "-m", "tunestack_train.backup"];
    const taken = await ENGINE.run(container("training-backup"), [...backup, "now", "--json"]);
    expect(taken.exitCode, taken.stderr).toBe(0);
    const before = await hashes();
    expect(before).toMatch(/adapter_model\.safetensors/);
    await ENGINE.run(container("training-backup"), ["rm", "-rf", "/checkpoints/first"]);
    expect(await hashes()).toBe("");
    const restored = await ENGINE.run(container("training-backup"), [
      ...backup,
      "restore",
      "--run=first",
      "--include=checkpoints",
      "--json",
    ]);
    expect(restored.exitCode, restored.stderr + restored.stdout).toBe(0);
    expect(await hashes()).toBe(before);
  });
});

describe("what is in the way", () => {
  test("a port in use is told before anything is made", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const address = server.address();
    const taken = typeof address === "object" ? address?.port : undefined;
    const other = await freshStack("test-port", { profiles: ["dev"] });
    try {
      const services = getPersonal(other.name, "services") as Record<string, object>;
      setPersonal(other.name, { services: { ...services, jupyter: { port: taken } } });
      await expect(up(other.name)).rejects.toThrow(
        new RegExp(
          `services\\.jupyter\\.port = ${taken}[\\s\\S]*is in use by another program[\\s\\S]*config set --path`,
        ),
      );
      expect(await ENGINE.client.listContainers({ all: true, filters: { name: ["^/test-port-"] } })).toEqual([]);
    } finally {
      server.close();
      await other.remove();
    }
  });

  test("a container name in use is told with whose it is", async () => {
    const other = await freshStack("test-name", { profiles: ["monitor"] });
    try {
      setPersonal(other.name, { docker: { prefix: test1.prefix } });
      await expect(up(other.name)).rejects.toThrow(
        /the name is taken by the stack test-engine@[\s\S]*set docker\.prefix/,
      );
    } finally {
      setPersonal(other.name, { docker: { prefix: other.prefix } });
      await other.remove();
    }
  });

  test("two stacks with prefixes of their own run side by side", async () => {
    const other = await freshStack("test-second", { profiles: ["monitor"] });
    try {
      const second = await up(other.name);
      await waitForServices(ENGINE, second);
      expect((await ENGINE.state("test-second-agent-gpu-monitor")).health).toBe("healthy");
      expect((await ENGINE.state(container("gpu-monitor"))).health).toBe("healthy");
    } finally {
      await other.remove();
    }
  });

  test("a lock of a killed pulumi up is explained, and taken away by the next command", async () => {
    setPersonal(test1.name, { training: { run: "long", preset: "rehearsal", set: { max_steps: 2000 } } });
    const folder = `.tunestack/state/.pulumi/locks/organization/tunestack/${test1.name}`;
    mkdirSync(folder, { recursive: true });
    const lock = { pid: 999_999, username: "someone", hostname: hostname(), timestamp: new Date().toISOString() };
    writeFileSync(`${folder}/5f0c3f2e-0000-4000-8000-000000000000.json`, JSON.stringify(lock));
    await expect(bringUp(stack, silent)).rejects.toThrow(/is locked[\s\S]*npx pulumi cancel/);
    await up(test1.name);
  });

  test("a pulumi up killed in the middle is mended by the next command", async () => {
    const other = await freshStack("test-killed", { profiles: ["monitor"] });
    try {
      const made = async () =>
        await ENGINE.client.listContainers({ all: true, filters: { name: [`^/${other.prefix}`] } });
      await openStack(other.name);
      const child = spawn("npx", ["pulumi", "up", "--yes", "--skip-preview", "--stack", other.name], {
        cwd: PROJECT_DIR,
        detached: true,
        stdio: "ignore",
      });
      await expect.poll(made, { timeout: 120_000, interval: 20 }).not.toEqual([]);
      if (child.pid === undefined) throw new Error("npx did not start");
      process.kill(-child.pid, "SIGKILL");
      await new Promise((resolve) => child.once("exit", resolve));
      const outputs = await up(other.name);
      await waitForServices(ENGINE, outputs);
      expect((await made()).length).toBe(2);
      for (const { container: id } of outputs.services) expect((await ENGINE.state(id)).health).toBe("healthy");
    } finally {
      await other.remove();
    }
  });

  test("a wrong passphrase is told as such", async () => {
    const workspace = await LocalWorkspace.create({
      workDir: PROJECT_DIR,
      pulumiHome: PULUMI_HOME,
      pulumiCommand: await PulumiCommand.get({ root: PULUMI_ROOT }),
      envVars: {
        ...pulumiEnvironment({ PATH: process.env.PATH, PULUMI_CONFIG_PASSPHRASE: "" }),
        PULUMI_CONFIG_PASSPHRASE: "wrong",
      },
    });
    const wrong = await Stack.select(test1.name, workspace);
    const error = await wrong.up({ suppressProgress: true }).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(explainPulumi(test1.name, error)?.message).toMatch(
      /made with another passphrase[\s\S]*\.tunestack\/passphrase/,
    );
  });
});

describe("destroy", () => {
  test("takes the containers and leaves the volumes", async () => {
    await stack.destroy({ suppressProgress: true });
    expect(await ENGINE.client.listContainers({ all: true, filters: { name: [`^/${test1.prefix}`] } })).toEqual([]);
    const { Volumes } = await ENGINE.client.listVolumes();
    const left = Volumes.map(({ Name }) => Name).filter((name) => name.startsWith(test1.prefix));
    expect(left).toHaveLength(6);
  });

  test("the next up takes the volumes up again", async () => {
    setPersonal(test1.name, { training: { run: "first", preset: "rehearsal" } });
    outputs = await up(test1.name);
    const status = await startAndFollow(ENGINE, run());
    expect(status.state).toBe("completed");
    expect(await ENGINE.lastLines(run().container, 20)).toMatch(/finished/);
  });
});
