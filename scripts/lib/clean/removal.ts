import type { VolumeName } from "../../../stacks/plan/types.ts";
import { formatBytes } from "../../../stacks/settings/units.ts";
import { formatTable } from "../table.ts";
import type { Inventory, VolumeEntry } from "./inventory.ts";

export interface CleanOptions {
  /** The checkpoints go too. */
  readonly checkpoints: boolean;
  /** The snapshots go too. */
  readonly backups: boolean;
}

export interface Removal {
  readonly removed: readonly VolumeEntry[];
  readonly kept: readonly (VolumeEntry & { readonly option: string })[];
}

/** Volumes that go only where a person says so by an option of their own. */
const BY_OPTION: Partial<Record<VolumeName, keyof CleanOptions>> = {
  training_checkpoints: "checkpoints",
  training_backup: "backups",
};

/** Which volumes go, and which stay unless an option is added. */
export function planRemoval({ volumes }: Pick<Inventory, "volumes">, options: CleanOptions): Removal {
  const removed: VolumeEntry[] = [];
  const kept: (VolumeEntry & { readonly option: string })[] = [];
  for (const entry of volumes) {
    const option = BY_OPTION[entry.volume];
    if (option === undefined || options[option]) removed.push(entry);
    else kept.push({ ...entry, option: `--${option}` });
  }
  return { removed, kept };
}

/**
 * What would be lost, as people read it.
 * @param rows what goes beside the volumes.
 */
export function formatRemoval(rows: readonly (readonly string[])[], { removed, kept }: Removal): string {
  const all = [...rows, ...removed.map(({ name, bytes, holds }) => ["volume", name, size(bytes), `lost: ${holds}`])];
  return [
    ...(all.length === 0 ? [] : ["Would be removed:", formatTable(["WHAT", "NAME", "SIZE", ""], all)]),
    ...kept.map(
      ({ name, bytes, holds, option }) => `stays: volume ${name} (${size(bytes)}: ${holds}); ${option} removes it too`,
    ),
  ].join("\n");
}

function size(bytes: number | undefined): string {
  return bytes === undefined ? "?" : formatBytes(bytes);
}
