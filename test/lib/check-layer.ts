import { existsSync } from "node:fs";
import { join } from "node:path";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { runChild } from "./children.ts";
import type { Layer } from "./layers.ts";
import type { SuiteResult } from "./results.ts";
import { vitestSuite } from "./vitest-suite.ts";

/** The quick layer: under a minute, without Docker and without a network. */
export const CHECK_LAYER: Layer = {
  name: "check",
  headline: "types, lint, import law, unit, golden and mock tests",
  run: async (record) => {
    // Two at a time: a machine has two cores at least, and a compiler beside a test runner keeps both busy.
    const linters = async () => {
      record(await tool("types", "typescript/bin/tsc", TYPES));
      record(await tool("format and lint", "@biomejs/biome/bin/biome", BIOME));
      record(await tool("import law", "dependency-cruiser/bin/dependency-cruise.mjs", CRUISE));
    };
    const tests = async () => record(await vitestSuite("quick", { follow: false }));
    const ended = await Promise.allSettled([linters(), tests()]);
    for (const part of ended) if (part.status === "rejected") throw part.reason;
  },
};

/** What was found of files that did not change is kept: the next look takes less than half of the time. */
const TYPES = ["-p", ".", "--incremental", "--tsBuildInfoFile", "node_modules/.cache/types.tsbuildinfo"];
/** Warnings fail; what is merely a hint is not shown, so that what fails stands out. */
const BIOME = ["check", "--error-on-warnings", "--diagnostic-level=warn", "--max-diagnostics=none", "."];
const SOURCES = ["index.ts", "stacks", "k8s", "policy", "scripts", "offline", "test"];
const CRUISE = [
  "--config",
  ".dependency-cruiser.mjs",
  ...SOURCES.filter((path) => existsSync(join(PROJECT_DIR, path))),
];

/** A tool from node_modules, which counts as one test. */
async function tool(name: string, program: string, args: readonly string[]): Promise<SuiteResult> {
  const { code, output, seconds } = await runChild(process.execPath, [join("node_modules", program), ...args], {
    cwd: PROJECT_DIR,
  });
  return { name, passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: [], seconds, output };
}
