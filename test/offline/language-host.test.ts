import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseOptions, splitWords } from "../../offline/language-host/options.ts";
import { requiredBy, requiredPackages } from "../../offline/language-host/packages.ts";
import {
  type ProgramRun,
  runnerArguments,
  runnerConfig,
  runnerEnvironment,
} from "../../offline/language-host/program.ts";

describe("runtime options of Pulumi.yaml", () => {
  it("gives the official host's defaults", () => {
    expect(parseOptions({})).toEqual({
      typescript: true,
      tsconfig: undefined,
      nodeArguments: [],
      packageManager: "auto",
      production: false,
    });
  });

  it("reads what this project sets", () => {
    const options = parseOptions({ typescript: false, nodeargs: "--import tsx" });
    expect(options.typescript).toBe(false);
    expect(options.nodeArguments).toEqual(["--import", "tsx"]);
  });

  it.each([
    [{ typescript: "no" }, 'runtime option typescript must be a boolean, it is "no"'],
    [{ nodeargs: ["--import"] }, "runtime option nodeargs must be a string"],
    [{ packagemanager: "cargo" }, "must be one of auto, npm, yarn, pnpm, bun"],
  ])("refuses %j by name and value", (options, message) => {
    expect(() => parseOptions(options)).toThrow(message);
  });

  it.each([
    ["a  b\tc", ["a", "b", "c"]],
    ["--x='a b' \"c d\"e", ["--x=a b", "c de"]],
    ["a\\ b '' # the rest", ["a b", ""]],
    ['"a\\"b\\n"', ['a"b\\n']],
    ["", []],
  ])("splits %j as a shell does", (line, words) => {
    expect(splitWords(line)).toEqual(words);
  });

  it("refuses what a shell would wait for", () => {
    expect(() => splitWords("'a")).toThrow("unclosed quote");
    expect(() => splitWords("a\\")).toThrow("backslash");
  });

  it("gives back any words that were quoted", () => {
    const quoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`;
    fc.assert(
      fc.property(fc.array(fc.string()), (words) => {
        expect(splitWords(words.map(quoted).join(" "))).toEqual(words);
      }),
    );
  });
});

const run: ProgramRun = {
  engine: "127.0.0.1:1",
  monitor: "127.0.0.1:2",
  organization: "organization",
  project: "p",
  stack: "dev",
  rootFolder: "/p",
  programFolder: "/p",
  entryPoint: "index.ts",
  dryRun: true,
  parallel: 16,
  arguments: [],
  config: new Map([
    ["p:target", "docker"],
    ["p:config:old", "form"],
  ]),
  secretKeys: ["p:token"],
};

describe("a run of the program", () => {
  it("tells the runner everything, the entry point last", () => {
    const expected =
      "--monitor 127.0.0.1:2 --engine 127.0.0.1:1 --organization organization --project p --root-directory /p --stack dev --pwd /p --dry-run --parallel 16 index.ts";
    expect(runnerArguments(run).join(" ")).toBe(expected);
    expect(runnerArguments({ ...run, dryRun: false, organization: "" })).not.toContain("--dry-run");
    expect(runnerArguments({ ...run, organization: "" })).not.toContain("--organization");
  });

  it("writes config keys in the form that every runner reads", () => {
    expect(JSON.parse(runnerConfig(run.config))).toEqual({ "p:config:target": "docker", "p:config:old": "form" });
    expect(() => runnerConfig(new Map([["bare", "x"]]))).toThrow("config key bare has no namespace");
  });

  it("asks for Pulumi's own TypeScript only where the options do", () => {
    const plain = runnerEnvironment(run, parseOptions({ typescript: false }));
    expect(plain).toEqual({ PULUMI_CONFIG: runnerConfig(run.config), PULUMI_CONFIG_SECRET_KEYS: '["p:token"]' });
    const typed = runnerEnvironment(run, parseOptions({ tsconfig: "other.json" }));
    expect(typed).toMatchObject({ PULUMI_NODEJS_TYPESCRIPT: "true", PULUMI_NODEJS_TSCONFIG_PATH: "other.json" });
  });
});

describe("the packages that a program requires", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "tunestack-packages-"));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  async function addPackage(path: string, json: object): Promise<void> {
    await mkdir(join(folder, path), { recursive: true });
    await writeFile(join(folder, path, "package.json"), JSON.stringify(json));
  }

  it("takes name and version from the field pulumi, else from the package", () => {
    expect(requiredBy({ name: "@pulumi/docker", version: "5.0.0", pulumi: { resource: true } })).toMatchObject({
      name: "docker",
      version: "v5.0.0",
    });
    expect(
      requiredBy({ name: "x", version: "1.0.0", pulumi: { resource: true, name: "y", version: "2.0.0" } }),
    ).toMatchObject({ name: "y", version: "v2.0.0" });
    expect(requiredBy({ name: "@pulumi/pulumi", version: "3.250.0" })).toBeUndefined();
    expect(() => requiredBy({ name: "x", version: "1.0.0", pulumi: { resource: true } })).toThrow("package x");
  });

  it("finds them with and without a scope, nested, and behind links, each once", async () => {
    await addPackage("node_modules/@pulumi/docker", {
      name: "@pulumi/docker",
      version: "5.0.0",
      pulumi: { resource: true },
    });
    await addPackage("node_modules/plain", { name: "plain", version: "1.0.0" });
    await addPackage("node_modules/plain/node_modules/inner", {
      name: "inner",
      version: "1.2.3",
      pulumi: { resource: true, name: "inner" },
    });
    await addPackage("elsewhere", { name: "linked", version: "3.0.0", pulumi: { resource: true, name: "linked" } });
    await symlink(join(folder, "elsewhere"), join(folder, "node_modules", "linked"));
    await addPackage("node_modules/broken", {});
    await writeFile(join(folder, "node_modules/broken/package.json"), '{"pulumi": ');
    const found = await requiredPackages(folder, folder);
    expect(found.map((one) => `${one.name} ${one.version}`)).toEqual([
      "docker v5.0.0",
      "inner v1.2.3",
      "linked v3.0.0",
    ]);
  });

  it("looks in the project's root as well when the program lies below it", async () => {
    await addPackage("node_modules/@pulumi/docker", {
      name: "@pulumi/docker",
      version: "5.0.0",
      pulumi: { resource: true },
    });
    await mkdir(join(folder, "program"));
    expect(await requiredPackages(join(folder, "program"), folder)).toHaveLength(1);
  });
});
