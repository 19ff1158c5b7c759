import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { engineSettings } from "../../stacks/settings/engine.ts";
import { type LoadOptions, loadStack } from "../../stacks/settings/load.ts";
import { problemsOf } from "../lib/inputs.ts";

let projectDir: string;

beforeEach(() => {
  projectDir = mkdtempSync(join(tmpdir(), "tunestack-load-"));
  write("Pulumi.dev.yaml", "config:\n  tunestack:training:\n    preset: rehearsal\n");
});

afterEach(() => rmSync(projectDir, { recursive: true, force: true }));

function write(file: string, content: string): void {
  const path = join(projectDir, file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

function load(changes: Partial<LoadOptions> = {}) {
  return loadStack({ projectDir, stack: "dev", environment: {}, ...changes });
}

describe("layers of a stack", () => {
  test("the shared file over the defaults", () => {
    const { settings, sources, stack } = load();
    expect(stack).toBe("dev");
    expect(settings.training.preset).toBe("rehearsal");
    expect(settings.services.jupyter.port).toBe(8888);
    expect(sources.get("training.preset")).toBe("Pulumi.dev.yaml");
  });

  test("a person's own file wins over the shared one, and an override over both", () => {
    write(
      ".tunestack/stacks/Pulumi.dev.yaml",
      "encryptionsalt: v1:abc\nconfig:\n  tunestack:services:\n    jupyter:\n      port: 8889\n      memory: 2GiB\n  other:key: 1\n",
    );
    const override = { source: "command line", values: { services: { jupyter: { memory: "3GiB" } } } };
    const { settings, sources } = load({ override });
    expect(settings.services.jupyter).toMatchObject({ port: 8889, memory: 3 * 2 ** 30 });
    expect(sources.get("services.jupyter.port")).toBe("pulumi config");
    expect(sources.get("services.jupyter.memory")).toBe("command line");
  });

  test("what Pulumi hands over takes the place of the personal file: lists and maps as JSON, the rest as text", () => {
    write(".tunestack/stacks/Pulumi.dev.yaml", "config:\n  tunestack:accelerator: cuda\n");
    const { settings } = load({
      pulumiConfig: {
        "tunestack:profiles": '["dev"]',
        "tunestack:services": '{"jupyter":{"port":8889}}',
        "tunestack:training": '{"preset":"rehearsal","set":{"learning_rate":"1e-4"}}',
        "docker:host": "unix:///elsewhere",
      },
    });
    expect(settings.profiles).toEqual(["dev"]);
    expect(settings.services.jupyter.port).toBe(8889);
    expect(settings.training.set).toEqual({ learning_rate: "1e-4" });
    expect(settings.accelerator).toBe("auto");
  });

  test("a list that is no JSON is told as what it is", () => {
    expect(problemsOf(() => load({ pulumiConfig: { "tunestack:profiles": "[training" } }))).toEqual([
      {
        path: "profiles (pulumi config)",
        value: '"[training"',
        reason: "is text and not a list",
        remedy: "write a list",
      },
    ]);
  });

  test("DOCKER_HOST names the engine, above the files; an empty one does not", () => {
    write(
      "Pulumi.dev.yaml",
      "config:\n  tunestack:training: {preset: rehearsal}\n  tunestack:docker: {host: ssh://a@b}\n",
    );
    const inputs = load({ environment: { DOCKER_HOST: "tcp://gpu-box:2375" } });
    expect(engineSettings(inputs).host).toBe("tcp://gpu-box:2375");
    expect(inputs.sources.get("docker.host")).toBe("DOCKER_HOST");
    expect(engineSettings(load({ environment: { DOCKER_HOST: "" } })).host).toBe("ssh://a@b");
  });

  test("no other variable of the environment changes anything", () => {
    const environment = { STACK: "prod", PRESET: "gemma-9b", TUNESTACK_RUN: "x", MODEL: "me/mine", DATA: "x.jsonl" };
    expect(load({ environment }).settings).toEqual(load().settings);
  });
});

describe("mistakes in files", () => {
  test("broken YAML is told with file and line", () => {
    write(
      "Pulumi.dev.yaml",
      "config:\n  tunestack:training:\n    preset: rehearsal\n  tunestack:profiles: [training\n",
    );
    const [problem] = problemsOf(load);
    expect(problem?.path).toBe(`${join(projectDir, "Pulumi.dev.yaml")}:5`);
    expect(problem?.reason).toMatch(/Flow sequence/);
    expect(problem?.remedy).toBe("mend the YAML at this line");
  });

  test("a config that is no map", () => {
    write("Pulumi.dev.yaml", "config: [1]\n");
    expect(problemsOf(load)).toEqual([
      {
        path: `${join(projectDir, "Pulumi.dev.yaml")}: config`,
        value: "[1]",
        reason: "is not a map",
        remedy: "write tunestack:KEY: VALUE pairs",
      },
    ]);
  });

  test("an empty file is no settings", () => {
    write("Pulumi.dev.yaml", "");
    const problems = problemsOf(load);
    expect(problems[0]?.reason).toBe("names neither a preset nor a model");
  });

  test("a key with dots in its name, as `config set` makes it without --path", () => {
    const key = "tunestack:services.jupyter.port";
    const expected = {
      path: "services.jupyter.port",
      value: '"8889"',
      reason: "was set as one key with dots in its name",
      remedy: `npx pulumi config rm '${key}' && npx pulumi config set --path '${key}' VALUE`,
    };
    expect(problemsOf(() => load({ pulumiConfig: { [key]: "8889" } }))).toEqual([expected]);
    write(".tunestack/stacks/Pulumi.dev.yaml", `config:\n  ${key}: "8889"\n`);
    expect(problemsOf(load)).toEqual([expected]);
  });
});

test("a proxy's certificate that is not there", () => {
  write(
    "Pulumi.dev.yaml",
    "config:\n  tunestack:training: {preset: rehearsal}\n  tunestack:image: {caCertificate: proxy.pem}\n",
  );
  expect(problemsOf(load)).toEqual([
    {
      path: "image.caCertificate",
      value: '"proxy.pem"',
      reason: "there is no such file",
      remedy: "give the PEM file of the certificate that your proxy signs with",
    },
  ]);
  write("proxy.pem", "");
  expect(load().settings.image.caCertificate).toBe("proxy.pem");
});

describe("what a run is given", () => {
  function located(training: string) {
    write("Pulumi.dev.yaml", `config:\n  tunestack:training: ${training}\n`);
    const { data, model, template } = load();
    return { data, model, template };
  }

  test("data is the committed sample, a path, or an id of the hub", () => {
    write("notes.jsonl", "");
    expect(located("{preset: rehearsal}").data).toEqual({
      kind: "host",
      path: join(projectDir, "examples/data/tunestack-help.jsonl"),
      exists: false,
    });
    expect(located("{preset: rehearsal, data: notes.jsonl}").data).toEqual({
      kind: "host",
      path: join(projectDir, "notes.jsonl"),
      exists: true,
    });
    expect(located("{preset: rehearsal, data: 'hub:org/set'}").data).toEqual({ kind: "hub", id: "org/set" });
    expect(located("{preset: rehearsal, data: ~/absent-notes.jsonl}").data).toEqual({
      kind: "host",
      path: join(homedir(), "absent-notes.jsonl"),
      exists: false,
    });
  });

  test("a model is a folder where it looks like one or is one, else an id", () => {
    mkdirSync(join(projectDir, "models/mine"), { recursive: true });
    expect(located("{model: google/gemma-2-2b, data: 'hub:x'}").model).toEqual({
      kind: "hub",
      id: "google/gemma-2-2b",
    });
    expect(located("{model: models/mine, data: 'hub:x'}").model).toMatchObject({ kind: "host", exists: true });
    expect(located("{model: ./absent, data: 'hub:x'}").model).toMatchObject({ kind: "host", exists: false });
    expect(located("{preset: rehearsal}").model).toBeUndefined();
  });

  test("a chat template is a file, unless it is the tokenizer's own", () => {
    const { template } = located("{preset: rehearsal, set: {chat_template: mine.jinja}}");
    expect(template).toMatchObject({ kind: "host", exists: false, path: expect.stringMatching(/\/mine\.jinja$/) });
    expect(located("{preset: rehearsal, set: {chat_template: auto}}").template).toBeUndefined();
    expect(located("{preset: rehearsal}").template).toBeUndefined();
  });

  test("secrets are the files of this stack alone", () => {
    write(".tunestack/secrets/dev/hf-token", "x");
    write(".tunestack/secrets/prod/wandb-api-key", "x");
    write(".tunestack/secrets/dev/unknown", "x");
    expect(load().secretFiles).toEqual({ "hf-token": join(projectDir, ".tunestack/secrets/dev/hf-token") });
  });
});

describe("what set-up found out", () => {
  test("is read from machine.json", () => {
    const facts = {
      schema: 1,
      checkedAt: "2026-11-23T10:00:00.000Z",
      accelerator: "cuda",
      baseImage: "tunestack/base:x",
      unreachableRegistries: ["registry-1.docker.io"],
    };
    write(".tunestack/machine.json", JSON.stringify(facts));
    expect(load().machine).toEqual(facts);
  });

  test.each(['{"schema":2}', "{ cut off"])("is looked up anew where the file is of no use: %s", (content) => {
    write(".tunestack/machine.json", content);
    expect(load().machine).toMatchObject({ schema: 1, unreachableRegistries: [] });
  });
});
