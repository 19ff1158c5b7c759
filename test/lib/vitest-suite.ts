import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { runChild } from "./children.ts";
import { crashed, type SuiteResult } from "./results.ts";
import { RESULTS_VARIABLE } from "./vitest-reporter.ts";

const resultsSchema = z.object({
  passed: z.int(),
  failed: z.int(),
  skipped: z.array(z.object({ test: z.string(), reason: z.string() })),
});

/** Runs a project of vitest.config.ts. */
export async function vitestSuite(
  project: "quick" | "engine" | "cluster",
  options: { readonly follow: boolean },
): Promise<SuiteResult> {
  const folder = mkdtempSync(join(tmpdir(), "tunestack-results-"));
  const file = join(folder, "results.json");
  try {
    const reporters = [options.follow ? "verbose" : "dot", "./test/lib/vitest-reporter.ts"];
    const { code, output, seconds } = await runChild(
      process.execPath,
      [
        "node_modules/vitest/vitest.mjs",
        "run",
        "--project",
        `${project}*`,
        ...reporters.map((name) => `--reporter=${name}`),
      ],
      { cwd: PROJECT_DIR, follow: options.follow, environment: { [RESULTS_VARIABLE]: file } },
    );
    const name = `${project} tests`;
    if (!existsSync(file)) return crashed(name, seconds, output);
    const results = resultsSchema.parse(JSON.parse(readFileSync(file, "utf8")));
    const failed = results.failed === 0 && code !== 0 ? 1 : results.failed;
    return { ...results, name, failed, seconds, output: options.follow ? "" : output };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
