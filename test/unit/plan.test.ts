import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makePlan } from "../../stacks/plan/plan.ts";
import type { Plan, Workload, WorkloadName } from "../../stacks/plan/types.ts";
import { SAMPLE_DATA } from "../../stacks/settings/defaults.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { loadStack, SECRET_NAMES, secretsFolder } from "../../stacks/settings/load.ts";
import {
  CLOSED_MACHINE,
  CPU_MACHINE,
  CUDA_MACHINE,
  gcpInputs,
  gkeInputs,
  type InputChanges,
  kubernetesInputs,
  problemsOf,
  stackInputs,
} from "../lib/inputs.ts";

function plan(changes: InputChanges = {}): Plan {
  return makePlan(stackInputs(changes));
}

function workload(of: Plan, name: WorkloadName): Workload {
  const found = [...of.services, ...(of.run === undefined ? [] : [of.run.workload])].find((one) => one.name === name);
  if (found === undefined) throw new Error(`the plan has no ${name}`);
  return found;
}

const names = (of: Plan) => of.services.map(({ name }) => name);
const secretPaths = (of: Workload) => of.mounts.filter(({ kind }) => kind === "secret").map(({ path }) => path);

describe("the accelerator", () => {
  test("on a CPU nothing gets a GPU, and NVIDIA's runtime is told to show none", () => {
    const cpu = plan({ machine: CPU_MACHINE });
    expect(cpu.image.pythonSet).toBe("cpu");
    for (const one of [...cpu.services, ...(cpu.run === undefined ? [] : [cpu.run.workload])]) {
      expect(one.gpu, one.name).toBe("none");
      expect(one.environment.NVIDIA_VISIBLE_DEVICES, one.name).toBe("void");
    }
  });

  test("on CUDA those that need a GPU get one, the others are kept from it", () => {
    const cuda = plan({ machine: CUDA_MACHINE });
    const gpus = Object.fromEntries(
      [...cuda.services, workload(cuda, "qlora-training")].map(({ name, gpu }) => [name, gpu]),
    );
    expect(gpus).toEqual({
      jupyter: "all",
      tensorboard: "none",
      "wandb-local": "none",
      "gpu-monitor": "monitor",
      "training-backup": "none",
      "qlora-training": "all",
    });
    expect(workload(cuda, "tensorboard").environment.NVIDIA_VISIBLE_DEVICES).toBe("void");
    expect(workload(cuda, "gpu-monitor").environment.NVIDIA_DRIVER_CAPABILITIES).toBe("utility");
    expect(cuda.image.pythonSet).toBe("cu126");
  });

  test("Jupyter can do without, and takes none of a cluster's queue", () => {
    const jupyter = { gpu: "none", environment: { NVIDIA_VISIBLE_DEVICES: "void" } };
    const off = plan({ machine: CUDA_MACHINE, settings: { services: { jupyter: { gpu: false } } } });
    expect(workload(off, "jupyter")).toMatchObject(jupyter);
    expect(workload(off, "qlora-training").gpu).toBe("all");
    const onVm = (settings: RawSettings) => workload(makePlan(gcpInputs({ settings })), "jupyter");
    expect(onVm({}).gpu).toBe("all");
    expect(onVm({ services: { jupyter: { gpu: false } } })).toMatchObject(jupyter);
    for (const inputs of [kubernetesInputs(), gkeInputs()]) {
      const here = makePlan(inputs);
      expect(here.run?.workload.gpu, inputs.settings.target).toBe("all");
      expect(workload(here, "jupyter"), inputs.settings.target).toMatchObject(jupyter);
    }
  });

  test("a GPU for Jupyter is refused in a cluster", () => {
    const settings = { services: { jupyter: { gpu: true } } };
    for (const inputsOf of [kubernetesInputs, gkeInputs])
      expect(problemsOf(() => inputsOf({ settings }))).toEqual([
        {
          path: "services.jupyter.gpu (test)",
          value: "true",
          reason:
            "is not to be had in a cluster: its queue does not know of Jupyter, which would keep the GPU from runs",
          remedy: "set it to false, or take it out; for notebooks with a GPU take Jupyter of the desk, or Colab",
        },
      ]);
    // What else is wrong is told with it, and what is neither true nor false is told once.
    const paths = (jupyter: RawSettings) =>
      problemsOf(() => kubernetesInputs({ settings: { services: { jupyter } } })).map(({ path }) => path);
    expect(paths({ gpu: true, port: 0 })).toEqual(["services.jupyter.port (test)", "services.jupyter.gpu (test)"]);
    expect(paths({ gpu: "yes" })).toEqual(["services.jupyter.gpu (test)"]);
  });

  test("a setting wins over what was found", () => {
    expect(plan({ machine: CUDA_MACHINE, settings: { accelerator: "cpu" } }).image.pythonSet).toBe("cpu");
    const elsewhere = { accelerator: "cuda", docker: { host: "ssh://me@gpu-box" } };
    expect(plan({ machine: CPU_MACHINE, settings: elsewhere }).image.pythonSet).toBe("cu126");
  });

  test("CUDA on a machine without a GPU is told before anything is made", () => {
    expect(() => plan({ machine: CPU_MACHINE, settings: { accelerator: "cuda" } })).toThrow(
      /accelerator = cuda\n.*offers none to containers\n.*set it to auto or cpu/,
    );
  });
});

describe("the image", () => {
  test("CUDA's base is pinned by digest, another CUDA version goes by its tag, a CPU takes a small one", () => {
    expect(plan({ machine: CUDA_MACHINE }).image.base).toMatch(/^nvidia\/cuda:12\.6[^@]*@sha256:[0-9a-f]{64}$/);
    const newer = { machine: CUDA_MACHINE, settings: { image: { cudaVersion: "12.8" } } };
    expect(plan(newer).image.base).toBe("nvidia/cuda:12.8.0-base-ubuntu24.04");
    expect(plan().image.base).toBe("python:3.12-slim-bookworm");
  });

  test("a base that was made here is taken before a registry's, and a person's own before both", () => {
    expect(plan({ machine: CLOSED_MACHINE }).image.base).toBe(CLOSED_MACHINE.baseImage);
    const own = { machine: CLOSED_MACHINE, settings: { image: { base: "mirror.example/base:1" } } };
    expect(plan(own).image.base).toBe("mirror.example/base:1");
  });

  test("only stages that something runs are built", () => {
    const stages = (settings: InputChanges["settings"]) =>
      plan(settings === undefined ? {} : { settings }).image.stages;
    expect(stages(undefined)).toEqual(["training", "dev", "monitor", "backup"]);
    expect(stages({ profiles: ["training"] })).toEqual(["training"]);
    expect(stages({ profiles: ["dev"] })).toEqual(["dev"]);
    const experiments = { repository: "https://git.example/a/b.git" };
    expect(stages({ profiles: ["experiments"], experiments })).toEqual(["training"]);
    const off = { jupyter: { enabled: false }, tensorboard: { enabled: false }, "training-backup": { enabled: false } };
    expect(stages({ services: off })).toEqual(["training", "monitor"]);
  });

  test("every stage that is used is built, whatever the profiles", () => {
    for (const profiles of [
      [],
      ["training"],
      ["dev"],
      ["monitor"],
      ["dev", "monitor"],
      ["training", "dev", "monitor"],
    ]) {
      const { image, services, run } = plan({ settings: { profiles } });
      const used = [...services, ...(run === undefined ? [] : [run.workload])].flatMap((one) =>
        one.image.kind === "stage" ? [one.image.stage] : [],
      );
      expect([...new Set(used)].sort(), profiles.join()).toEqual([...image.stages].sort());
    }
  });
});

describe("services", () => {
  test("come with their profiles", () => {
    expect(names(plan())).toEqual(["jupyter", "tensorboard", "wandb-local", "gpu-monitor", "training-backup"]);
    expect(names(plan({ settings: { profiles: ["dev"] } }))).toEqual(["jupyter", "tensorboard", "wandb-local"]);
    expect(names(plan({ settings: { profiles: ["training"] } }))).toEqual([]);
    expect(plan({ settings: { profiles: ["dev"] } }).run).toBeUndefined();
  });

  test("what cannot be had is left out by name, and the rest comes up", () => {
    const closed = plan({ machine: CLOSED_MACHINE });
    expect(closed.leftOut).toEqual([
      {
        service: "wandb-local",
        reason: "the image wandb/local cannot be had: registry-1.docker.io does not answer",
      },
    ]);
    expect(names(closed)).toEqual(["jupyter", "tensorboard", "gpu-monitor", "training-backup"]);
  });

  test("a service that is switched off is left out by name", () => {
    const off = plan({ settings: { services: { jupyter: { enabled: false } } } });
    expect(off.leftOut).toEqual([{ service: "jupyter", reason: "services.jupyter.enabled is false" }]);
    expect(names(off)).not.toContain("jupyter");
  });

  test("settings reach the service that they are of", () => {
    const set = plan({
      settings: {
        services: { jupyter: { port: 8889, memory: "2GiB", colab: true }, "gpu-monitor": { interval: "1m" } },
        backup: { interval: "30m", repository: "s3:https://host/bucket", keep: { last: 3 } },
        training: { sharedMemory: "1GiB" },
      },
    });
    expect(workload(set, "jupyter")).toMatchObject({
      ports: [{ container: 8888, host: 8889 }],
      memoryBytes: 2 * 2 ** 30,
      sharedMemoryBytes: 2 ** 30,
      environment: { TUNESTACK_JUPYTER_COLAB: "1" },
    });
    expect(workload(set, "gpu-monitor").command).toContain("--interval=60s");
    expect(workload(set, "training-backup").command).toEqual(
      expect.arrayContaining(["--interval=1800s", "--drill-interval=86400s", "--keep-last=3", "--keep-hourly=24"]),
    );
    expect(workload(set, "training-backup").environment.RESTIC_REPOSITORY).toBe("s3:https://host/bucket");
    expect(workload(plan(), "jupyter").environment).not.toHaveProperty("TUNESTACK_JUPYTER_COLAB");
  });
});

describe("the run", () => {
  test("of a preset, with settings and the committed sample", () => {
    const { run } = plan({
      settings: { training: { run: "two", commit: "0123abc", set: { max_steps: 5, packing: true } } },
    });
    expect(run?.workload.command).toEqual([
      "tunestack-train",
      "run",
      "--name=two",
      "--preset=rehearsal",
      "--data=/data/tunestack-help.jsonl",
      "--set=packing=true",
      "--set=max_steps=5",
    ]);
    expect(run?.workload.environment).toMatchObject({ TUNESTACK_RUN: "two", TUNESTACK_GIT_COMMIT: "0123abc" });
    expect(run?.data).toBe("examples/data/tunestack-help.jsonl");
  });

  test("of a folder's model and data: both are mounted read-only and named by their path in the container", () => {
    const { run } = plan({
      settings: { training: { model: "./mine", data: "/home/me/notes" } },
      model: { kind: "host", path: "/project/mine", exists: true },
      data: { kind: "host", path: "/home/me/notes", exists: true },
    });
    expect(run?.workload.command).toEqual(expect.arrayContaining(["--model=/model", "--data=/data/notes"]));
    expect(run?.workload.mounts.filter(({ kind }) => kind === "host")).toEqual([
      { kind: "host", source: "/home/me/notes", path: "/data/notes" },
      { kind: "host", source: "/project/mine", path: "/model" },
    ]);
  });

  test("of a chat template in a file: it is mounted read-only and named by its path in the container", () => {
    const { run } = plan({
      settings: { training: { set: { chat_template: "mine.jinja", lora_r: 8 } } },
      template: { kind: "host", path: "/project/mine.jinja", exists: true },
    });
    const command = run?.workload.command;
    expect(command).toEqual(expect.arrayContaining(["--set=chat_template=/template.jinja", "--set=lora_r=8"]));
    expect(run?.workload.mounts).toContainEqual({
      kind: "host",
      source: "/project/mine.jinja",
      path: "/template.jinja",
    });
  });

  test("a chat template that is not there is told", () => {
    const template = { kind: "host", path: "/project/mine.jinja", exists: false } as const;
    const problems = problemsOf(() => plan({ template }));
    expect(problems).toMatchObject([{ path: "training.set.chat_template", value: "/project/mine.jinja" }]);
  });

  test("of the hub's model and data: nothing is mounted", () => {
    const { run } = plan({
      settings: { training: { model: "google/gemma-2-2b", data: "hub:org/set" } },
      model: { kind: "hub", id: "google/gemma-2-2b" },
      data: { kind: "hub", id: "org/set" },
    });
    expect(run?.workload.command).toEqual(expect.arrayContaining(["--model=google/gemma-2-2b", "--data=hub:org/set"]));
    expect(run?.workload.mounts.filter(({ kind }) => kind === "host")).toEqual([]);
  });

  test("a fraction of a second's grace is a whole one", () => {
    expect(plan({ settings: { training: { stopGrace: "90.5s" } } }).run?.workload.stopGraceSeconds).toBe(91);
  });

  test("missing data and a missing model are told together", () => {
    const problems = problemsOf(() =>
      plan({
        settings: { training: { model: "./mine", data: "notes.jsonl" } },
        data: { kind: "host", path: "/project/notes.jsonl", exists: false },
        model: { kind: "host", path: "/project/mine", exists: false },
      }),
    );
    expect(problems).toEqual([
      {
        path: "training.data",
        value: "/project/notes.jsonl",
        reason: "there is no such file or folder",
        remedy:
          "give the path of a JSONL, JSON, CSV or Parquet file, of a folder of them, or hub:ID for a Hugging Face data set",
      },
      {
        path: "training.model",
        value: "/project/mine",
        reason: "there is no such folder",
        remedy: "give the folder of a Hugging Face model, or the id of one, such as google/gemma-2-2b",
      },
    ]);
  });

  test("a gated preset without GPU and token: both are told at once, with what to type", () => {
    const settings = { training: { preset: "gemma-2b" } };
    const problems = problemsOf(() => plan({ settings, machine: CPU_MACHINE }));
    expect(problems).toEqual([
      {
        path: "training.preset",
        value: "gemma-2b",
        reason: "needs an NVIDIA GPU with 12 GiB of memory, and this machine offers none to containers",
        remedy:
          "npm run doctor says what is missing; npm run train-custom -- --preset rehearsal trains a tiny model on the CPU",
      },
      {
        path: "training.preset",
        value: "gemma-2b",
        reason: "google/gemma-2-2b is gated, and no Hugging Face token is set",
        remedy:
          "accept the licence at https://huggingface.co/google/gemma-2-2b, make a token at https://huggingface.co/settings/tokens, and type: HF_TOKEN=… npm run train-gemma-2b",
      },
    ]);
    const elsewhere = problemsOf(() => plan({ settings, machine: CPU_MACHINE, stack: "prod" }));
    expect(elsewhere[1]?.remedy).toMatch(/npm run train-gemma-2b -- --stack prod$/);
    expect(plan({ settings, machine: CUDA_MACHINE, secrets: ["hf-token"] }).run?.preset).toBe("gemma-2b");
  });

  test("with the profile training off, a run that cannot work is nobody's problem", () => {
    const data = { kind: "host", path: "/absent", exists: false } as const;
    expect(plan({ settings: { profiles: ["dev"] }, data }).run).toBeUndefined();
  });
});

describe("secrets", () => {
  test("are mounted as files where they are set, each only into those that use it", () => {
    const all = plan({ secrets: SECRET_NAMES });
    expect(
      Object.fromEntries([...all.services, workload(all, "qlora-training")].map((one) => [one.name, secretPaths(one)])),
    ).toEqual({
      jupyter: ["/run/secrets/jupyter-token", "/run/secrets/hf-token"],
      tensorboard: [],
      "wandb-local": [],
      "gpu-monitor": [],
      "training-backup": ["/run/secrets/restic-password"],
      "qlora-training": ["/run/secrets/hf-token", "/run/secrets/wandb-api-key", "/run/secrets/webhook-url"],
    });
    const none = plan();
    for (const one of [...none.services, workload(none, "qlora-training")])
      expect(secretPaths(one), one.name).toEqual([]);
  });

  test("that a runner signs in with go to it alone", () => {
    const settings = { profiles: ["experiments"], experiments: { repository: "https://git.example/a/b.git" } };
    const runner = workload(plan({ secrets: SECRET_NAMES, settings }), "experiment-runner");
    expect(secretPaths(runner).slice(0, 4)).toEqual(
      ["git-token", "git-ssh-key", "git-known-hosts", "webhook-url"].map((name) => `/run/secrets/${name}`),
    );
  });

  test("their values stand nowhere in the plan", () => {
    const projectDir = mkdtempSync(join(tmpdir(), "tunestack-plan-"));
    try {
      const folder = secretsFolder(projectDir, "dev");
      mkdirSync(folder, { recursive: true });
      for (const name of SECRET_NAMES) writeFileSync(join(folder, name), `value-of-${name}\n`);
      mkdirSync(join(projectDir, "examples", "data"), { recursive: true });
      writeFileSync(join(projectDir, SAMPLE_DATA), "");
      writeFileSync(
        join(projectDir, "Pulumi.dev.yaml"),
        "config:\n  tunestack:training: {preset: rehearsal}\n  tunestack:profiles: [training, dev, monitor, experiments]\n  tunestack:experiments: {repository: git@git.example:a/b.git}\n",
      );
      const text = JSON.stringify(makePlan(loadStack({ projectDir, stack: "dev", environment: {} })));
      for (const name of SECRET_NAMES) {
        expect(text).toContain(join(folder, name));
        expect(text).not.toContain(`value-of-${name}`);
      }
    } finally {
      rmSync(projectDir, { recursive: true, force: true });
    }
  });

  test("a plan is plain data, which has no functions and no values that come later", () => {
    const all = plan({ secrets: SECRET_NAMES });
    expect(structuredClone(all)).toEqual(all);
  });
});
