import { describe, expect, test } from "vitest";
import { containerName, LABELS, networkName, renderService, volumeName } from "../../stacks/targets/docker/render.ts";
import { expectGolden, goldenFiles } from "../lib/golden.ts";
import { CPU_MACHINE, CUDA_MACHINE } from "../lib/inputs.ts";
import { renderStack } from "../lib/rendered.ts";

/** The names of the design's table, in the order in which a plan has them. */
const WORKLOADS = ["jupyter", "tensorboard", "wandb-local", "gpu-monitor", "training-backup", "experiment-runner", "qlora-training"] as const;

/** Replaces what changes with every edit of the plan. */
function withoutVolatile(container: unknown): unknown {
  return JSON.parse(JSON.stringify(container), (key, value: unknown) => {
    if (key === "image" && typeof value === "string") return value.replace(/sha256:[0-9a-f]{64}$/, "<digest>");
    const hashed = typeof value === "object" && value !== null && "label" in value && value.label === LABELS.specification;
    return hashed ? { ...value, value: "<hash>" } : value;
  });
}

describe("containers of a stack with CUDA, all profiles and all secrets", () => {
  const rendered = renderStack({ machine: CUDA_MACHINE });

  test.each(WORKLOADS)("%s", (name) => {
    expectGolden(`docker/${name}.json`, withoutVolatile(rendered.get(name)?.container));
  });

  test("each has a golden file, and each golden file a container", () => {
    expect([...rendered.keys()]).toEqual(WORKLOADS);
    expect(goldenFiles("docker")).toEqual(WORKLOADS.map((name) => `${name}.json`).sort());
  });
});

test("without a GPU the same containers differ in what hands GPUs out, and in nothing else", () => {
  const cuda = renderStack({ machine: CUDA_MACHINE });
  const cpu = renderStack({ machine: CPU_MACHINE });
  expect([...cpu.keys()]).toEqual([...cuda.keys()]);
  for (const [name, { container }] of cpu) {
    const { gpus, envs, ...rest } = withoutVolatile(cuda.get(name)?.container) as Record<string, unknown>;
    const { envs: cpuEnvs, ...cpuRest } = withoutVolatile(container) as Record<string, unknown>;
    expect(withoutRehearsal(cpuRest), name).toEqual(withoutRehearsal(rest));
    if (name === "experiment-runner") expect(cpuRest.command, name).toContain("--gpus-on-cpu");
    const others = (of: unknown) => (Array.isArray(of) ? of.filter((text) => !String(text).startsWith("NVIDIA_")) : of);
    expect(others(cpuEnvs), name).toEqual(others(envs));
    expect(cpuEnvs, name).toContain("NVIDIA_VISIBLE_DEVICES=void");
    expect(gpus, name).toBe(["jupyter", "gpu-monitor", "experiment-runner", "qlora-training"].includes(name) ? "all" : undefined);
  }
});

test("without its GPU Jupyter's container is the same but for what hands GPUs out, and all others are the same", () => {
  const all = renderStack({ machine: CUDA_MACHINE });
  const without = renderStack({ machine: CUDA_MACHINE, settings: { services: { jupyter: { gpu: false } } } });
  const cpu = renderStack({ machine: CPU_MACHINE });
  for (const [name, { container }] of without)
    expect(withoutVolatile(container), name).toEqual(withoutVolatile((name === "jupyter" ? cpu : all).get(name)?.container));
  expect(without.get("jupyter")?.container).not.toHaveProperty("gpus");
});

/** What asks for a GPU runs without one where there is none at all. */
function withoutRehearsal({ command, ...rest }: Record<string, unknown>): Record<string, unknown> {
  return { ...rest, command: Array.isArray(command) ? command.filter((word) => word !== "--gpus-on-cpu") : command };
}

test("a prefix stands before every name on the engine, and before nothing within a container", () => {
  const naming = { prefix: "second-", owner: "dev@/project" };
  expect(containerName(naming, "jupyter")).toBe("second-agent-jupyter");
  expect(volumeName(naming, "training_logs")).toBe("second-training_logs");
  expect(networkName(naming)).toBe("second-tunestack");
  const workload = renderStack().get("jupyter")?.workload;
  if (workload === undefined) throw new Error("no jupyter");
  const resolve = { image: () => "image", volume: (name: string) => `second-${name}`, variable: (name: string) => name };
  expect(renderService(workload, naming, resolve)).toMatchObject({
    name: "second-agent-jupyter",
    networksAdvanced: [{ name: "second-tunestack", aliases: ["jupyter"] }],
  });
});
