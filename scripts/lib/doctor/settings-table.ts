import type { StackInputs } from "../../../stacks/settings/load.ts";
import { formatBytes, formatDuration } from "../../../stacks/settings/units.ts";
import { formatTable } from "../table.ts";

/** One setting as the stack has it. */
export interface SettingRow {
  /** Example: `services.jupyter.port`. */
  readonly path: string;
  readonly value: string;
  /** Example: `Pulumi.dev.yaml`. */
  readonly source: string;
}

const SIZES = /(^|\.)(memory|sharedMemory|disk|bootDisk|dataDisk|sizes\.\w+)$/;
const DURATIONS = /(^|\.)(interval|drillInterval|pollInterval|stopGrace|maximumRun|idleShutdown|snapshotRetention)$/;

/** Every setting with its value and where it came from, by path. */
export function settingRows({ settings, sources }: Pick<StackInputs, "settings" | "sources">): readonly SettingRow[] {
  return [...sources]
    .map(([path, source]) => ({ path, value: shown(path, valueAt(settings, path)), source }))
    .sort((a, b) => a.path.localeCompare(b.path));
}

export function formatSettings(rows: readonly SettingRow[]): string {
  return formatTable(
    ["SETTING", "VALUE", "FROM"],
    rows.map(({ path, value, source }) => [path, value, source]),
  );
}

function shown(path: string, value: unknown): string {
  if (typeof value === "number" && SIZES.test(path)) return formatBytes(value);
  if (typeof value === "number" && DURATIONS.test(path)) return formatDuration(value);
  const text = typeof value === "string" && value !== "" ? value : (JSON.stringify(value) ?? "–");
  // A mirror's or repository's address may hold a password.
  return text.replaceAll(/\/\/[^/@\s]*@/g, (userinfo) => (userinfo.includes(":") ? "//…@" : userinfo));
}

function valueAt(settings: unknown, path: string): unknown {
  let here: unknown = settings;
  for (const key of path.split(".")) {
    if (typeof here !== "object" || here === null) return undefined;
    here = Object.entries(here).find(([name]) => name === key)?.[1];
  }
  return here;
}
