import type { Snapshot } from "./backup.ts";
import { formatTable } from "./table.ts";

/** The snapshots as people read them, newest first. */
export function formatSnapshots(snapshots: readonly Snapshot[]): string {
  if (snapshots.length === 0) return "no snapshot yet: npm run backup takes one";
  const newestFirst = [...snapshots].sort((a, b) => Date.parse(b.time) - Date.parse(a.time));
  return formatTable(
    ["ID", "TIME", "HOLDS"],
    newestFirst.map(({ id, time, runs, parts }) => [id, localTime(time), holds(runs, Object.keys(parts))]),
  );
}

function holds(runs: readonly string[], parts: readonly string[]): string {
  const named = runs.length === 0 ? [] : [`${runs.length === 1 ? "run" : "runs"} ${runs.join(", ")}`];
  return [...named, ...parts.filter((part) => part !== "checkpoints")].join("; ") || "nothing complete yet";
}

/** `2026-11-23 22:05` in this machine's time zone. */
export function localTime(moment: string): string {
  const date = new Date(moment);
  const two = (value: number) => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`;
}
