import type { Skip } from "./results.ts";

export interface JUnitCounts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: readonly Skip[];
}

const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", "#10": "\n" };

/**
 * Counts the tests of a JUnit file as pytest writes it. A test that fails and errs in its teardown counts once.
 * @returns undefined where the text is no JUnit report.
 */
export function readJUnit(xml: string): JUnitCounts | undefined {
  if (!/<testsuite\b/.test(xml)) return undefined;
  let passed = 0;
  let failed = 0;
  const skipped: Skip[] = [];
  for (const [, attributes = "", content = ""] of xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
    const skip = /<skipped\b([^>]*?)\/?>/.exec(content)?.[1];
    if (/<(failure|error)\b/.test(content)) failed += 1;
    else if (skip !== undefined) {
      const test = [attribute(attributes, "classname"), attribute(attributes, "name")].filter((part) => part !== "");
      skipped.push({ test: test.join("."), reason: attribute(skip, "message") || "no reason given" });
    } else passed += 1;
  }
  return { passed, failed, skipped };
}

function attribute(attributes: string, name: string): string {
  const value = new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? "";
  return value.replaceAll(/&([a-z]+|#10);/g, (entity, key: string) => ENTITIES[key] ?? entity);
}
