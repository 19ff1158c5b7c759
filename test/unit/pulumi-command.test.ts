import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { stackToMake } from "../../scripts/pulumi/stack-to-make.mjs";

let project: string;

beforeEach(() => {
  project = mkdtempSync(join(tmpdir(), "pulumi-command-"));
  writeFileSync(join(project, "Pulumi.prod.yaml"), "config: {}\n");
});

afterEach(() => rmSync(project, { recursive: true, force: true }));

test.each([
  [["preview", "--stack", "prod"]],
  [["up", "-s", "prod", "--yes"]],
  [["config", "set", "--stack=prod", "a", "b"]],
])("%j makes a shared stack that has no state yet", (args) => {
  expect(stackToMake(args, project, {})).toBe("prod");
});

test.each([
  ["a stack that no file tells of", ["preview", "--stack", "other"]],
  ["no stack named", ["preview"]],
  ["what makes or removes stacks itself", ["stack", "init", "prod", "--stack", "prod"]],
  ["a name that is none", ["preview", "--stack", "../prod"]],
])("%s makes nothing", (_title, args) => {
  expect(stackToMake(args, project, {})).toBeUndefined();
});

test("a stack with state, or with its state elsewhere, is left as it is", () => {
  expect(stackToMake(["up", "-s", "prod"], project, { PULUMI_BACKEND_URL: "gs://team" })).toBeUndefined();
  const stacks = join(project, ".tunestack", "state", ".pulumi", "stacks", "tunestack");
  mkdirSync(stacks, { recursive: true });
  writeFileSync(join(stacks, "prod.json"), "{}");
  expect(stackToMake(["up", "-s", "prod"], project, {})).toBeUndefined();
});
