import { writeFileSync } from "node:fs";
import type { Reporter, TestModule, TestSpecification } from "vitest/node";
import type { Skip } from "./results.ts";

/** What the runner reads of a run of vitest. Its own JSON does not tell why a test was skipped. */
export interface VitestResults {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: readonly Skip[];
}

/** Environment variable that names the file to write. */
export const RESULTS_VARIABLE = "TUNESTACK_TEST_RESULTS";

/** Writes the counts, and each skipped test with its reason (`context.skip("why, and what would let it run")`). */
export default class ResultsReporter implements Reporter {
  private expected = 0;

  onTestRunStart(specifications: readonly TestSpecification[]): void {
    this.expected = specifications.length;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const file = process.env[RESULTS_VARIABLE];
    if (file !== undefined) writeFileSync(file, JSON.stringify(resultsOf(modules, unhandled.length, this.expected)));
  }
}

function resultsOf(modules: readonly TestModule[], unhandled: number, expected: number): VitestResults {
  let passed = 0;
  // A file that cannot be loaded, an error outside every test, and a file that was never reported each count once.
  let failed = unhandled + Math.max(0, expected - modules.length);
  const skipped: Skip[] = [];
  for (const module of modules) {
    failed += module.errors().length;
    for (const suite of module.children.allSuites()) failed += suite.errors().length;
    for (const test of module.children.allTests()) {
      const result = test.result();
      if (result.state === "passed") passed += 1;
      else if (result.state === "failed") failed += 1;
      else if (result.state === "skipped") {
        skipped.push({
          test: `${module.relativeModuleId} › ${test.fullName}`,
          reason: result.note ?? "no reason given",
        });
      } else failed += 1;
    }
  }
  return { passed, failed, skipped };
}
