import { execFileSync } from "node:child_process";
import { cpus, loadavg, totalmem } from "node:os";
import { formatBytes } from "../../stacks/settings/units.ts";
import { usageError } from "./errors.ts";
import { PROJECT_DIR } from "./project.ts";
import { readGpu } from "./setup/gpu.ts";
import type { Report } from "./steps.ts";
import { formatTable } from "./table.ts";

/** One figure of a benchmark. */
export interface Measure {
  readonly name: string;
  /** Undefined in what is not measured on this machine. */
  readonly value: number | null;
  readonly unit: string;
  /** Such as `<= 1.5`; null for a figure that nothing is promised of. */
  readonly bound: string | null;
  readonly holds: boolean;
}

/** A benchmark: what a module of test/bench exports as `benchmark`. */
export interface Benchmark {
  readonly summary: string;
  /** How much of each thing it measures with, unless `--size` says otherwise. Example: `{ nodes: 1000 }`. */
  readonly sizes?: Sizes;
  readonly run: (report: Report, sizes: Sizes) => Promise<readonly Measure[]>;
}

export type Sizes = Readonly<Record<string, number>>;

/**
 * Sizes of a benchmark as they were typed, over its own.
 * @param typed such as `nodes=100`.
 * @throws UserError for what it has no size of, and for what is no number.
 */
export function readSizes(typed: readonly string[], own: Sizes = {}): Sizes {
  const read = typed.map((text) => {
    const [, name, count] = /^([a-z]+)=([1-9]\d*)$/.exec(text) ?? [];
    if (name !== undefined && own[name] !== undefined) return [name, Number(count)] as const;
    const names = Object.keys(own).map((one) => `${one}=N`);
    throw usageError({
      path: "--size",
      value: text,
      reason: "is no size of this benchmark",
      remedy: names.length === 0 ? "it has none; leave it out" : `use ${names.join(", ")}`,
    });
  });
  return { ...own, ...Object.fromEntries(read) };
}

export interface BenchResult {
  readonly name: string;
  readonly machine: string;
  readonly commit: string;
  readonly measures: readonly Measure[];
}

/** A figure with what was promised of it; a figure without a bound holds, one that is missing does not. */
export function measure(name: string, value: number | null, unit: string, bound?: string): Measure {
  return {
    name,
    value,
    unit,
    bound: bound ?? null,
    holds: bound === undefined || (value !== null && isWithin(value, bound)),
  };
}

/** @param bound `<= 1.5`, `< 200`, `>= 20`, `> 0` or `== 0`. */
export function isWithin(value: number, bound: string): boolean {
  const match = /^(<=|<|>=|>|==) (-?\d+(?:\.\d+)?)$/.exec(bound);
  if (match === null) throw new Error(`no bound: ${bound}`);
  const limit = Number(match[2]);
  switch (match[1]) {
    case "<=":
      return value <= limit;
    case "<":
      return value < limit;
    case ">=":
      return value >= limit;
    case ">":
      return value > limit;
    default:
      return value === limit;
  }
}

/** The middle of several runs, which one slow run does not move. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [low, high] = sorted.length % 2 === 1 ? [sorted[middle], sorted[middle]] : [sorted[middle - 1], sorted[middle]];
  if (low === undefined || high === undefined) throw new Error("no value to take the median of");
  return (low + high) / 2;
}

/** Three digits say all that a measurement on a busy machine can. */
export function rounded(value: number): number {
  return Number(value.toPrecision(3));
}

export function formatResult({ name, machine, commit, measures }: BenchResult): string {
  const rows = measures.map(({ name: what, value, unit, bound, holds }) => [
    bound === null ? " " : holds ? "✓" : "✗",
    what,
    value === null ? "not measured" : `${rounded(value)} ${unit}`.trim(),
    bound ?? "",
  ]);
  return [`${name} on ${machine}, commit ${commit}`, "", formatTable(["", "MEASURE", "VALUE", "BOUND"], rows)].join(
    "\n",
  );
}

/** This machine in a few words; a load above its number of processors tells that figures of time are too large. */
export async function describeMachine(): Promise<string> {
  const processors = cpus();
  const { driver } = await readGpu();
  const gpu = driver === undefined ? "no GPU" : `NVIDIA driver ${driver}`;
  const [load = 0] = loadavg();
  const model = processors[0]?.model.trim() ?? "CPU";
  return `${processors.length} × ${model}, ${formatBytes(totalmem())}, ${gpu}, load ${load.toFixed(1)}`;
}

/** The commit that was measured; `-dirty` where files differ from it. */
export function describeCommit(): string {
  const git = (...args: string[]) => execFileSync("git", args, { cwd: PROJECT_DIR, encoding: "utf8" }).trim();
  try {
    return git("rev-parse", "--short", "HEAD") + (git("status", "--porcelain") === "" ? "" : "-dirty");
  } catch {
    return "unknown";
  }
}
