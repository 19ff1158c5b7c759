import { chalk } from "zx";
import type { Problem } from "../../../stacks/settings/problems.ts";

/** What `--fix` can do about a check that is not well. */
export type Fix = "set-up" | "lock" | "state" | "services";

/** One thing that the doctor looked at. */
export interface Check {
  /** What was looked at. Example: `disk`. */
  readonly name: string;
  /** `warn`: works, with something to know; `fail`: `npm start` or the stack will not work. */
  readonly status: "ok" | "warn" | "fail";
  /** One line: what was found. */
  readonly said: string;
  /** What to do; undefined where nothing needs doing. */
  readonly remedy?: string;
  readonly fix?: Fix;
}

const MARKS = { ok: chalk.green("✓"), warn: chalk.yellow("!"), fail: chalk.red("✗") } as const;

export function ok(name: string, said: string): Check {
  return { name, status: "ok", said };
}

export function warn(name: string, said: string, remedy: string, fix?: Fix): Check {
  return { name, status: "warn", said, remedy, ...(fix === undefined ? {} : { fix }) };
}

export function fail(name: string, said: string, remedy: string, fix?: Fix): Check {
  return { name, status: "fail", said, remedy, ...(fix === undefined ? {} : { fix }) };
}

/** A problem that another part of the project found. */
export function fromProblem({ path, value, reason, remedy }: Problem, fix?: Fix): Check {
  return fail(path, value === undefined ? reason : `${value}: ${reason}`, remedy, fix);
}

/** The checks as people read them: a line each, the remedy beneath. */
export function formatChecks(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return checks
    .flatMap(({ name, status, said, remedy }) => [
      `${MARKS[status]} ${name.padEnd(width)}  ${said}`,
      ...(remedy === undefined || status === "ok" ? [] : [`  ${" ".repeat(width)}  → ${remedy}`]),
    ])
    .join("\n");
}
