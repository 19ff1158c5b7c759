import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pack } from "tar-stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { EXIT, UserError } from "../../scripts/lib/errors.ts";
import { bringOut, formatExported, readExported } from "../../scripts/lib/export.ts";
import { renderOneOff } from "../../scripts/lib/one-off.ts";
import type { Archive } from "../../scripts/lib/workloads.ts";
import { planExport } from "../../stacks/plan/run.ts";
import { CPU_MACHINE, CUDA_MACHINE, stackInputs } from "../lib/inputs.ts";

const NAMING = { prefix: "lab-", owner: "dev@/project" };
const DRIFT = { kl: 0.0001, top1: 0.992 };
const STAGE = { from_before: { kl: 0.00005, top1: 1 }, from_adapter: DRIFT, from_trained: { kl: 0.002, top1: 0.97 } };
const EXPORTED = {
  run: "first",
  checkpoint: "checkpoint-30",
  chosen_as: "the last",
  folder: "/models/gguf/first/checkpoint-30",
  fresh: true,
  files: { "first-q8_0.gguf": 2 * 2 ** 20, safetensors: 4 * 2 ** 20, Modelfile: 100 },
  stages: [
    { stage: "base", label: "adapter on the base in bf16", file: null, ...STAGE },
    { stage: "merged", label: "merged safetensors", file: "safetensors", ...STAGE },
    { stage: "q8_0", label: "GGUF q8_0", file: "first-q8_0.gguf", ...STAGE },
  ],
};

async function failure(body: () => unknown): Promise<UserError> {
  try {
    await body();
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("the container of an export", () => {
  test("gets what it reads and the volume that it writes, and nothing of a run's logs or W&B key", () => {
    const inputs = stackInputs({ machine: CPU_MACHINE, secrets: ["hf-token", "wandb-api-key"] });
    const workload = planExport(inputs, "cpu", ["first", "--json"], undefined);
    expect(workload.command).toEqual(["tunestack-train", "export", "first", "--json"]);
    expect(workload.mounts.map(({ path }) => path)).toEqual([
      "/models/cache",
      "/checkpoints",
      "/run/secrets/hf-token",
      "/models/gguf",
    ]);
    expect(workload.environment).toEqual({ NVIDIA_VISIBLE_DEVICES: "void" });
  });

  test("gets the base model of the settings, or the one that is named in its place", () => {
    const inputs = stackInputs({ model: { kind: "host", path: "/srv/gemma", exists: true } });
    const own = planExport(inputs, "cpu", ["first"], undefined);
    expect(own.mounts.filter(({ path }) => path === "/model")).toMatchObject([{ source: "/srv/gemma" }]);
    expect(own.command).not.toContain("--base=/model");
    const named = planExport(inputs, "cpu", ["first"], "/srv/other");
    expect(named.mounts.filter(({ path }) => path === "/model")).toMatchObject([{ source: "/srv/other" }]);
    expect(named.command).toContain("--base=/model");
  });

  test.each([
    ["a CPU", CPU_MACHINE, "cpu"],
    ["CUDA", CUDA_MACHINE, "cuda"],
  ] as const)("on %s is hardened as the services are", (_title, machine, accelerator) => {
    const inputs = stackInputs({ machine, settings: { training: { memory: "8GiB" } }, secrets: ["hf-token"] });
    const workload = planExport(inputs, accelerator, ["first"], "/srv/base");
    const { User, HostConfig, Labels, Image, Env } = renderOneOff(
      "lab-agent-export-first",
      "sha256:1",
      workload,
      NAMING,
    );
    expect([User, Image]).toEqual(["1000:1000", "sha256:1"]);
    expect(HostConfig).toMatchObject({
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges:true"],
      Init: true,
      PidsLimit: 16384,
      Memory: 8 * 2 ** 30,
      MemorySwap: 8 * 2 ** 30,
      NetworkMode: "lab-tunestack",
    });
    for (const options of Object.values(HostConfig?.Tmpfs ?? {})) expect(options).toMatch(/nosuid,nodev,size=\d+/);
    const writable = (HostConfig?.Mounts ?? []).filter(({ ReadOnly }) => ReadOnly !== true);
    expect(writable.map(({ Type, Source }) => [Type, Source])).toEqual([
      ["volume", "lab-training_models_cache"],
      ["volume", "lab-training_checkpoints"],
      ["volume", "lab-training_models_gguf"],
    ]);
    expect(HostConfig?.DeviceRequests !== undefined).toBe(accelerator === "cuda");
    expect(Env?.includes("NVIDIA_VISIBLE_DEVICES=void")).toBe(accelerator === "cpu");
    // The stack would take a container with its owner's label for a left-over, and remove it.
    expect(Object.keys(Labels ?? {})).toEqual(["dev.tunestack.one-off"]);
  });
});

describe("what the export answers", () => {
  const answer = (value: object, exitCode = 0) => ({
    exitCode,
    stdout: `${JSON.stringify(value)}\n`,
    stderr: "a\nlast",
  });

  test("is read from the last line", () => {
    expect(readExported("first", answer(EXPORTED))).toEqual(EXPORTED);
  });

  test.each([
    [2, EXIT.settings],
    [4, EXIT.machine],
    [6, EXIT.machine],
    [7, EXIT.run],
  ])("exit code %i becomes %i, in its own words", async (theirs, ours) => {
    const error = { error: { message: "the export of first drifts", remedy: "more bits", exit_code: theirs } };
    const thrown = await failure(() => readExported("first", answer(error, theirs)));
    expect(thrown.exitCode).toBe(ours);
    expect(thrown.message).toContain("the export of first drifts");
    expect(thrown.message).toContain("more bits");
  });

  test("a kill for memory and a bug of ours are told apart", async () => {
    const killed = await failure(() => readExported("first", { exitCode: 137, stdout: "", stderr: "" }));
    expect([killed.exitCode, killed.message]).toEqual([EXIT.machine, expect.stringContaining("outgrew the memory")]);
    const crashed = await failure(() => readExported("first", { exitCode: 1, stdout: "", stderr: "Trace\nKeyError" }));
    expect([crashed.exitCode, crashed.message]).toEqual([EXIT.run, expect.stringContaining("KeyError")]);
  });

  test("is shown as a table with what to type next", () => {
    const inVolume = formatExported(EXPORTED, undefined);
    expect(inVolume).toMatch(/GGUF q8_0 +2(\.0)? ?MiB +5\.0e-5 +1\.0e-4 +99\.2 %/);
    expect(inVolume).toMatch(/adapter on the base in bf16 +5\.0e-5 +2\.0e-3 +97\.0 %/);
    expect(inVolume).toContain("npm run export -- --run first --to ./first");
    expect(formatExported(EXPORTED, "/home/me/first")).toContain("ollama create first -f /home/me/first/Modelfile");
  });
});

describe("bringing the files out", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "tunestack-export-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** A container whose archive holds a file and a manifest that says `listed` of it. */
  function container(content: string, listed: string): Archive {
    const sha256 = createHash("sha256").update(listed).digest("hex");
    const manifest = JSON.stringify({ schema: 1, files: { "a.gguf": { size: listed.length, sha256 } } });
    const archive = pack();
    archive.entry({ name: "checkpoint-30/", type: "directory" });
    archive.entry({ name: "checkpoint-30/a.gguf" }, content);
    archive.entry({ name: "checkpoint-30/manifest.json" }, manifest);
    archive.finalize();
    return async () => Readable.from(archive);
  }

  test("verifies them and puts them into place", async () => {
    const to = join(folder, "out");
    await bringOut(container("weights", "weights"), "/models/gguf/first/checkpoint-30", to);
    expect(readFileSync(join(to, "a.gguf"), "utf8")).toBe("weights");
    expect(readdirSync(folder)).toEqual(["out"]);
  });

  test("keeps nothing that differs from what was written, and overwrites nothing", async () => {
    const to = join(folder, "out");
    const damaged = await failure(() => bringOut(container("weighty", "weights"), "/models/gguf", to));
    expect(damaged.message).toContain("a.gguf differs from what was saved");
    expect(existsSync(to)).toBe(false);
    writeFileSync(to, "mine");
    expect((await failure(() => bringOut(container("weights", "weights"), "/models/gguf", to))).exitCode).toBe(
      EXIT.refused,
    );
    expect(readFileSync(to, "utf8")).toBe("mine");
  });
});
