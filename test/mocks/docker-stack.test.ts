import * as pulumi from "@pulumi/pulumi";
import { beforeAll, describe, expect, test } from "vitest";
import { renderBuild } from "../../stacks/image/image.ts";
import { makePlan } from "../../stacks/plan/plan.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { PROFILES } from "../../stacks/settings/schema.ts";
import { DockerStack } from "../../stacks/targets/docker/stack.ts";
import { expectGolden } from "../lib/golden.ts";
import { CLOSED_MACHINE, CUDA_MACHINE, type InputChanges, stackInputs } from "../lib/inputs.ts";
import { type Registration, recordRegistrations } from "../lib/pulumi-mocks.ts";
import { NAMING, QUEUE, renderStack } from "../lib/rendered.ts";

interface Declared extends InputChanges {
  readonly prefix?: string;
  readonly host?: string;
  readonly runImage?: string;
}

async function declare({ prefix = "", host, runImage, ...changes }: Declared = {}): Promise<readonly Registration[]> {
  const settings = { profiles: PROFILES, experiments: { repository: QUEUE }, ...changes.settings };
  const plan = makePlan(stackInputs({ ...changes, settings }));
  const { registrations } = await recordRegistrations(
    () => new DockerStack("tunestack", { plan, naming: { ...NAMING, prefix }, projectDir: "/project", host, runImage }),
  );
  return registrations;
}

const CONTAINER = "docker:index/container:Container";
const VOLUME = "docker:index/volume:Volume";

function find(registrations: readonly Registration[], type: string, name: string): Registration {
  const found = registrations.find((one) => one.type === type && one.name === name);
  if (found === undefined) throw new Error(`nothing was registered as ${name} of type ${type}`);
  return found;
}

describe("what a stack registers", () => {
  test("logical names, types and parents, which are permanent", async () => {
    const registrations = await declare({ machine: CUDA_MACHINE });
    expectGolden(
      "mocks/logical-names.json",
      registrations.map(({ type, name, parent }) => `${parent ?? "(top)"} → ${name}: ${type}`),
    );
  });

  test("settings never feed the logical names", async () => {
    const names = (of: readonly Registration[]) => of.map(({ type, name, parent }) => ({ type, name, parent }));
    const changed = await declare({
      machine: CUDA_MACHINE,
      stack: "prod",
      prefix: "second-",
      runImage: "sha256:old",
      secrets: ["hf-token", "jupyter-token"],
      settings: {
        training: { run: "another", set: { max_steps: 3 } },
        services: { jupyter: { port: 8889 }, tensorboard: { memory: "1GiB" } },
        image: { base: "mirror.example/base:1", cudaVersion: "12.8" },
      },
    });
    expect(names(changed)).toEqual(names(await declare({ machine: CUDA_MACHINE })));
  });

  test("each container with exactly what its renderer returned", async () => {
    const registrations = await declare({ machine: CUDA_MACHINE, secrets: ["jupyter-token", "restic-password"] });
    const rendered = renderStack({ machine: CUDA_MACHINE, secrets: ["jupyter-token", "restic-password"] });
    for (const [name, { container }] of rendered) {
      const registered = find(registrations, CONTAINER, `tunestack-${name}`);
      const expected = JSON.parse(JSON.stringify(container), (key, value: unknown) => {
        if (typeof value !== "string") return value;
        if (key === "image" && value.startsWith("wandb")) return "<id of tunestack-wandb-local-image>";
        return value.replace(/<image (.*)>$/, "<digest of tunestack-image-$1>").replace(/^<volume (.*)>$/, "$1");
      });
      expect(registered.inputs, name).toEqual(expected);
      expect(registered, name).toMatchObject({ parent: "tunestack", deleteBeforeReplace: true, retainOnDelete: false });
      expect(registered?.replaceOnChanges, name).toEqual(["healthcheck", "init", "mounts", "tmpfs"]);
      expect(registered.dependencies, name).toContain("tunestack-network");
    }
    expect(registrations.filter(({ type }) => type === CONTAINER)).toHaveLength(rendered.size);
  });

  test("volumes with their names, kept when the stack is destroyed", async () => {
    const volumes = (await declare({ prefix: "second-" })).filter(({ type }) => type === VOLUME);
    expect(volumes.map(({ inputs }) => inputs)).toEqual([
      { name: "second-training_backup" },
      { name: "second-training_checkpoints" },
      { name: "second-training_logs" },
      { name: "second-training_models_cache" },
      { name: "second-training_models_gguf" },
      { name: "second-training_wandb" },
    ]);
    for (const volume of volumes) expect(volume).toMatchObject({ parent: "tunestack", retainOnDelete: true });
  });

  test("one build for each stage, by the engine's own BuildKit, from the image's folder alone", async () => {
    const registrations = await declare({ machine: CLOSED_MACHINE, settings: { profiles: ["training"] } });
    const builds = registrations.filter(({ type }) => type === "docker-build:index:Image");
    expect(builds.map(({ name, parent }) => ({ name, parent }))).toEqual([
      { name: "tunestack-image-training", parent: "tunestack-image" },
    ]);
    expect(builds[0]?.inputs).toEqual({
      context: { location: "/project/images/qlora" },
      dockerfile: { location: "/project/images/qlora/Dockerfile" },
      target: "training",
      tags: ["tunestack/training:dev"],
      buildArgs: { BASE_IMAGE: CLOSED_MACHINE.baseImage, PYTHON_SET: "cpu" },
      builder: { name: "default" },
      exec: true,
      load: true,
      network: "default",
      push: false,
      buildOnPreview: false,
    });
  });

  test("each stage is built as itself, under a name of its own", async () => {
    const builds = (await declare({ prefix: "second-", stack: "prod" })).filter(
      ({ type }) => type === "docker-build:index:Image",
    );
    expect(builds.map(({ name, inputs: { target, tags } }) => ({ name, target, tags }))).toEqual(
      ["backup", "dev", "monitor", "training"].map((stage) => ({
        name: `tunestack-image-${stage}`,
        target: stage,
        tags: [`tunestack/second-${stage}:prod`],
      })),
    );
  });

  test("a service that is left out is not registered, nor is its image pulled", async () => {
    const names = (await declare({ machine: CLOSED_MACHINE })).map(({ name }) => name);
    expect(names.filter((name) => name.includes("wandb"))).toEqual(["tunestack-training-wandb"]);
  });

  test("without the profile training there is no run", async () => {
    const names = (await declare({ settings: { profiles: ["dev"] } })).map(({ name }) => name);
    expect(names).not.toContain("tunestack-qlora-training");
    expect(names).not.toContain("tunestack-image-training");
  });

  test("a run that keeps its image has it, whatever was built", async () => {
    const registrations = await declare({ runImage: "sha256:old" });
    expect(find(registrations, CONTAINER, "tunestack-qlora-training").inputs.image).toBe("sha256:old");
    expect(find(registrations, CONTAINER, "tunestack-jupyter").inputs.image).toBe("<digest of tunestack-image-dev>");
  });

  test("another engine gets a provider of its own, which every resource of it goes through", async () => {
    const registrations = await declare({ host: "ssh://me@gpu-box" });
    expect(find(registrations, "pulumi:providers:docker", "tunestack-engine").inputs).toMatchObject({
      host: "ssh://me@gpu-box",
    });
    expect(find(registrations, "pulumi:providers:docker-build", "tunestack-builder").inputs).toMatchObject({
      host: "ssh://me@gpu-box",
    });
    for (const { type, name, provider } of registrations) {
      if (type.startsWith("docker:index/")) expect(provider, name).toBe("tunestack-engine");
      if (type.startsWith("docker-build:")) expect(provider, name).toBe("tunestack-builder");
    }
    const local = await declare();
    expect(local.filter(({ type }) => type.startsWith("pulumi:providers:"))).toEqual([]);
    for (const { provider } of local) expect(provider).toBeUndefined();
  });
});

describe("changing one thing", () => {
  let unchanged: Promise<readonly Registration[]>;
  beforeAll(() => {
    unchanged = declare();
  });

  /** Names of what gets other inputs. */
  async function touched(settings: RawSettings): Promise<readonly string[]> {
    const [before, after] = [await unchanged, await declare({ settings })];
    expect(after.map(({ name }) => name)).toEqual(before.map(({ name }) => name));
    return after.flatMap(({ name, inputs }, index) =>
      JSON.stringify(inputs) === JSON.stringify(before[index]?.inputs) ? [] : [name],
    );
  }

  test.each([
    ["jupyter", { services: { jupyter: { port: 8889 } } }],
    ["jupyter", { services: { jupyter: { memory: "1GiB" } } }],
    ["jupyter", { services: { jupyter: { colab: true } } }],
    ["tensorboard", { services: { tensorboard: { port: 6007 } } }],
    ["wandb-local", { services: { "wandb-local": { port: 8081 } } }],
    ["gpu-monitor", { services: { "gpu-monitor": { interval: "1m" } } }],
    ["training-backup", { services: { "training-backup": { memory: "1GiB" } } }],
    ["training-backup", { backup: { interval: "30m" } }],
    ["training-backup", { backup: { keep: { last: 9 } } }],
    ["qlora-training", { training: { run: "another" } }],
    ["qlora-training", { training: { set: { max_steps: 5 } } }],
    ["qlora-training", { training: { memory: "24GiB" } }],
  ] as const)("touches %s alone: %j", async (service, settings) => {
    expect(await touched(settings)).toEqual([`tunestack-${service}`]);
  });

  test("what says nothing of a resource touches none", async () => {
    expect(await touched({ training: { replaceRunning: true } })).toEqual([]);
  });

  test("the base image touches the builds alone, until their digest is another", async () => {
    const names = await touched({ image: { base: "mirror.example/base:1" } });
    expect(names).toEqual(["backup", "dev", "monitor", "training"].map((stage) => `tunestack-image-${stage}`));
  });
});

describe("the build of an image", () => {
  test("takes mirrors and a proxy's certificate, which is a secret of the build and no argument", () => {
    const plan = {
      ...makePlan(stackInputs()).image,
      pypiMirror: "https://mirror.example/simple",
      aptMirror: "https://mirror.example/debian",
      caCertificate: "package.json",
    };
    const build = renderBuild("dev", {
      plan,
      projectDir: "/project",
      tagOf: (stage) => `tunestack/${stage}:dev`,
      push: false,
    });
    expect(build.buildArgs).toMatchObject({
      PYPI_MIRROR: "https://mirror.example/simple",
      APT_MIRROR: "https://mirror.example/debian",
      CA_CERTIFICATE_SHA256: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(build.secrets).toEqual({ ca_certificate: expect.stringContaining("tunestack") });
    expect(JSON.stringify(build.buildArgs)).not.toContain("dependencies");
  });
});

describe("the mocks themselves", () => {
  test("a resource without a mock fails the test", async () => {
    class Unknown extends pulumi.CustomResource {
      constructor() {
        super("cloud:index:Bucket", "bucket", {});
      }
    }
    await expect(recordRegistrations(() => new Unknown())).rejects.toThrow(
      "no mock for the resource cloud:index:Bucket (bucket)",
    );
  });

  test("a call without a mock fails the test", async () => {
    const call = async () => await pulumi.runtime.invoke("cloud:index:getZones", {});
    await expect(recordRegistrations(call)).rejects.toThrow("no mock for the call cloud:index:getZones");
  });
});
