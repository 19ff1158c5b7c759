import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { setPersonal } from "../../scripts/lib/personal.ts";
import { PERSONAL_DIR, PROJECT_DIR } from "../../scripts/lib/project.ts";
import { up } from "../../scripts/lib/train.ts";
import { personalStackFile } from "../../stacks/settings/load.ts";
import { getPersonal } from "../lib/personal-settings.ts";
import { freePorts } from "../lib/ports.ts";
import { freshStack, type TestStack } from "./test-stack.ts";

let stack: TestStack;

beforeAll(async () => {
  stack = await freshStack("test-preview", { profiles: ["dev"] });
});

afterAll(async () => await stack?.remove());

async function preview(...args: readonly string[]): Promise<{ code: number; stdout: string }> {
  return await new Promise((resolve) => {
    execFile("npm", ["run", "--silent", "preview", "--", stack.name, ...args], { cwd: PROJECT_DIR }, (error, stdout) =>
      resolve({ code: typeof error?.code === "number" ? error.code : 0, stdout }),
    );
  });
}

/** Of what a preview must leave as it is: the state of all stacks, and the stack's personal settings. */
function fingerprint(): string {
  const hash = createHash("sha256");
  const state = join(PERSONAL_DIR, "state");
  const files = readdirSync(state, { recursive: true, encoding: "utf8" }).map((file) => join(state, file));
  for (const file of [...files, personalStackFile(PROJECT_DIR, stack.name)].sort()) {
    if (existsSync(file) && statSync(file).isFile()) hash.update(file).update(readFileSync(file));
  }
  return hash.digest("hex");
}

test("a stack that is not up is previewed as new, and nothing of it is left", async () => {
  const before = fingerprint();
  const { code, stdout } = await preview();
  expect(code).toBe(0);
  expect(stdout).toMatch(/### `test-preview`: \d+ created\n/);
  expect(stdout).toContain("It has no state where this ran");
  expect(stdout).toContain("safe: starts service jupyter");
  expect(fingerprint()).toBe(before);
});

test("a changed port is told as a restart of its service, and nothing happens to it", async () => {
  await up(stack.name);
  const services = getPersonal(stack.name, "services") as Record<string, object>;
  const [port] = await freePorts(1);
  setPersonal(stack.name, { services: { ...services, tensorboard: { port } } });
  const before = fingerprint();
  const { code, stdout } = await preview();
  expect(code).toBe(0);
  expect(stdout).toContain("### `test-preview`: 1 replaced\n");
  expect(stdout).toContain(
    "| replace | `tunestack-tensorboard` | docker Container | **restarts service tensorboard** |",
  );
  expect(stdout).toMatch(new RegExp(`\`ports\\[0\\]\\.external\`: \`\\d+\` → \`${port}\`, which replaces it`));
  expect(stdout).toContain("Cost: no rented machines.");
  expect((await preview()).stdout).toBe(stdout);
  expect(fingerprint()).toBe(before);
});

test("settings that are wrong are told as everywhere, with their exit code", async () => {
  setPersonal(stack.name, { profiles: ["nothing"] });
  const { code, stdout } = await preview("--json");
  expect(code).toBe(2);
  expect(JSON.parse(stdout)).toMatchObject({
    stacks: [
      {
        stack: "test-preview",
        failed: true,
        problems: expect.stringMatching(/1 problem in the settings:\n {2}profiles/),
      },
    ],
  });
});
