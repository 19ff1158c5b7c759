import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { StackOutputs } from "../../stacks/outputs.ts";
import type { EngineState } from "../../stacks/targets/docker/engine.ts";
import { recordRegistrations } from "../lib/pulumi-mocks.ts";

const engine = vi.hoisted(() => ({
  read: vi.fn<(host: string | undefined, ports: readonly number[]) => Promise<EngineState>>(),
}));

vi.mock(import("../../stacks/targets/docker/engine.ts"), async (original) => ({
  ...(await original()),
  readEngine: engine.read,
}));

const home = process.cwd();
let projectDir: string;

beforeEach(() => {
  projectDir = mkdtempSync(join(tmpdir(), "tunestack-program-"));
  process.chdir(projectDir);
  write("Pulumi.dev.yaml", "config:\n  tunestack:training: {preset: rehearsal}\n");
  write("examples/data/tunestack-help.jsonl", "");
  write(
    ".tunestack/machine.json",
    JSON.stringify({ schema: 1, checkedAt: "x", accelerator: "cpu", unreachableRegistries: ["registry-1.docker.io"] }),
  );
  engine.read.mockResolvedValue({ containers: [], takenPorts: [] });
  pulumi.runtime.setAllConfig({});
  vi.stubEnv("DOCKER_HOST", "");
  vi.resetModules();
});

afterEach(() => {
  process.chdir(home);
  rmSync(projectDir, { recursive: true, force: true });
  vi.unstubAllEnvs();
  vi.clearAllMocks();
});

function write(file: string, content: string): void {
  mkdirSync(dirname(join(projectDir, file)), { recursive: true });
  writeFileSync(join(projectDir, file), content);
}

/** Runs index.ts as Pulumi does. */
async function run(): Promise<{ outputs: StackOutputs; names: readonly string[] }> {
  const { value, registrations } = await recordRegistrations(async () => {
    const { tunestack } = await import("../../index.ts");
    return await new Promise<unknown>((resolve) => pulumi.output(tunestack).apply(resolve));
  });
  return { outputs: value as StackOutputs, names: registrations.map(({ name }) => name) };
}

describe("index.ts", () => {
  test("declares the stack of the settings and gives outputs for the scripts", async () => {
    const { outputs, names } = await run();
    expect(names).toContain("tunestack-jupyter");
    expect(outputs).toEqual({
      version: 1,
      target: "docker",
      stack: "dev",
      services: [
        { name: "jupyter", container: "agent-jupyter", url: "http://127.0.0.1:8888/lab" },
        { name: "tensorboard", container: "agent-tensorboard", url: "http://127.0.0.1:6006/" },
        { name: "gpu-monitor", container: "agent-gpu-monitor", url: "http://127.0.0.1:9400/metrics" },
        { name: "training-backup", container: "agent-training-backup" },
      ],
      run: {
        name: "first-run",
        container: "agent-qlora-training",
        preset: "rehearsal",
        data: "examples/data/tunestack-help.jsonl",
      },
      leftOut: [
        {
          service: "wandb-local",
          reason: "the image wandb/local cannot be had: registry-1.docker.io does not answer",
        },
      ],
      volumes: {
        training_models_cache: "training_models_cache",
        training_models_gguf: "training_models_gguf",
        training_checkpoints: "training_checkpoints",
        training_logs: "training_logs",
        training_backup: "training_backup",
        training_wandb: "training_wandb",
      },
      images: {
        training: "<digest of tunestack-image-training>",
        dev: "<digest of tunestack-image-dev>",
        monitor: "<digest of tunestack-image-monitor>",
        backup: "<digest of tunestack-image-backup>",
      },
    });
  });

  test("takes Pulumi's configuration and the engine's address in", async () => {
    pulumi.runtime.setAllConfig({ "tunestack:profiles": '["dev"]', "tunestack:docker": '{"prefix":"second-"}' });
    vi.stubEnv("DOCKER_HOST", "unix:///run/other.sock");
    const { outputs } = await run();
    expect(outputs.run).toBeUndefined();
    expect(outputs).toMatchObject({ target: "docker", engine: "unix:///run/other.sock" });
    expect(outputs.services.map(({ container }) => container)).toEqual([
      "second-agent-jupyter",
      "second-agent-tensorboard",
    ]);
    expect(engine.read).toHaveBeenCalledExactlyOnceWith("unix:///run/other.sock", [8888, 6006]);
  });

  /** Runs a program that must fail; nothing may have been registered. */
  async function failure(): Promise<unknown> {
    let caught: unknown;
    const { registrations } = await recordRegistrations(async () => {
      caught = await import("../../index.ts").then(
        () => undefined,
        (error: unknown) => error,
      );
    });
    expect(registrations).toEqual([]);
    return caught;
  }

  test("tells a person's mistake without a stack trace, before anything is registered", async () => {
    write("Pulumi.dev.yaml", "config:\n  tunestack:training: {preset: rehearsla}\n  tunestack:acelerator: cpu\n");
    const error = await failure();
    expect(error).toBeInstanceOf(pulumi.RunError);
    expect(String(error)).toContain("2 problems in the settings:\n  training.preset (Pulumi.dev.yaml)");
  });

  test("a port that is taken is told before anything is registered", async () => {
    engine.read.mockResolvedValue({ containers: [], takenPorts: [6006] });
    const error = await failure();
    expect(error).toBeInstanceOf(pulumi.RunError);
    expect(String(error)).toContain("1 problem in the Docker engine:\n  services.tensorboard.port = 6006");
  });

  test("an engine that does not answer is told before anything is registered", async () => {
    // The program's own class: the modules are loaded anew for each test.
    const { SettingsError } = await import("../../stacks/settings/problems.ts");
    engine.read.mockRejectedValue(
      new SettingsError([{ path: "Docker engine", reason: "it is not running", remedy: "npm start" }], "Docker engine"),
    );
    expect(await failure()).toBeInstanceOf(pulumi.RunError);
  });

  test("a defect of ours keeps its stack trace", async () => {
    engine.read.mockRejectedValue(new TypeError("a defect"));
    const error = await failure();
    expect(error).toBeInstanceOf(TypeError);
  });
});
