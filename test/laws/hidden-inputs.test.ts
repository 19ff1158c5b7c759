import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { trackedFiles } from "../lib/tracked.ts";

/** What a module could read behind its callers' backs. */
const HIDDEN =
  /process\.env|new pulumi\.Config|pulumi\.getStack|runtime\.allConfig|process\.cwd|Math\.random|Date\.now|new Date\(\)/;

function readsHiddenInputs(source: string): boolean {
  return HIDDEN.test(source.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, ""));
}

test("in stacks/ nothing reads the environment, Pulumi's configuration, the clock or chance", () => {
  const sources = trackedFiles().filter((file) => /^(stacks|k8s)\/.*\.ts$/.test(file));
  expect(sources.length).toBeGreaterThan(15);
  const found = sources.filter((file) => readsHiddenInputs(readFileSync(join(PROJECT_DIR, file), "utf8")));
  expect(found).toEqual([]);
});

test.each([
  'const host = process.env["DOCKER_HOST"];',
  "const config = new pulumi.Config();",
  "const now = Date.now();",
])("%s is found", (source) => {
  expect(readsHiddenInputs(source)).toBe(true);
});

test.each(["const host = environment.DOCKER_HOST;", "// process.env is read elsewhere", "new Date(0)"])(
  "%s is none",
  (source) => {
    expect(readsHiddenInputs(source)).toBe(false);
  },
);
