/** A test that did not run. */
export interface Skip {
  readonly test: string;
  /** Why, and what would let it run. */
  readonly reason: string;
}

/** What came of one suite: a test framework's run, or a linter, which counts as one test. */
export interface SuiteResult {
  readonly name: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: readonly Skip[];
  readonly seconds: number;
  /** What the suite said; shown in full where it failed. */
  readonly output: string;
}

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export function countsOf(suites: readonly SuiteResult[]): Counts {
  const sum = (count: (suite: SuiteResult) => number) => suites.reduce((total, suite) => total + count(suite), 0);
  return {
    passed: sum(({ passed }) => passed),
    failed: sum(({ failed }) => failed),
    skipped: sum(({ skipped }) => skipped.length),
  };
}

export function countsText({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

/** The end of a run: every test that did not run with its reason, then the counts on a line of their own. */
export function closingText(suites: readonly SuiteResult[]): string {
  const byReason = new Map<string, string[]>();
  for (const { name, skipped } of suites) {
    for (const { test, reason } of skipped) byReason.set(reason, [...(byReason.get(reason) ?? []), `${name}: ${test}`]);
  }
  const skips = [...byReason].map(([reason, tests]) =>
    [`  ${reason}`, ...tests.map((test) => `    ${test}`)].join("\n"),
  );
  return [...(skips.length === 0 ? [] : ["skipped:", ...skips, ""]), countsText(countsOf(suites))].join("\n");
}

/** A suite that ended without telling its counts. */
export function crashed(name: string, seconds: number, output: string): SuiteResult {
  return { name, passed: 0, failed: 1, skipped: [], seconds, output };
}
