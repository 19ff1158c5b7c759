import type { Problem } from "../../../stacks/settings/problems.ts";
import { EXIT, UserError } from "../errors.ts";
import type { Inventory } from "./inventory.ts";
import type { CleanOptions } from "./removal.ts";
import type { Unsaved } from "./unsaved.ts";

/** A run in progress that would be killed; undefined where none is. */
export function runInProgress({ containers }: Pick<Inventory, "containers">, stack: string): Problem | undefined {
  const found = containers.find(({ running, run }) => running && run !== undefined);
  if (found === undefined) return undefined;
  return {
    path: `run ${found.run}`,
    reason: "is in progress",
    remedy: `npm run train-stop${stack === "dev" ? "" : ` -- --stack ${stack}`} stops it and saves a checkpoint; then the same command again`,
  };
}

/**
 * Why the checkpoints may not go; empty where they may.
 * @param localRepository the snapshots are in the volume that --backups removes.
 */
export function checkpointProblems(
  unsaved: Unsaved,
  { backups }: Pick<CleanOptions, "backups">,
  localRepository: boolean,
): readonly Problem[] {
  if (unsaved.kind === "unknown") {
    return [
      {
        path: "volume training_checkpoints",
        reason: `nobody can tell whether the newest checkpoint is in a backup: ${unsaved.why}`,
        remedy: "npm start, npm run backup, then the same command again; or lose them: --force",
      },
    ];
  }
  if (backups && localRepository) {
    return [
      {
        path: "--checkpoints --backups",
        reason: "the checkpoints and the snapshots of them would both be gone",
        remedy: "leave one of the two out; npm run restore -- latest --to FOLDER keeps a copy; or lose them: --force",
      },
    ];
  }
  return unsaved.checkpoints.map(({ run, manifest }) => ({
    path: `run ${run}`,
    value: manifest.replace(/\/manifest\.json$/, ""),
    reason: "the newest checkpoint is in no backup",
    remedy: "npm run backup, then the same command again; or lose it: --force",
  }));
}

export function refuse(problems: readonly Problem[]): UserError {
  return new UserError(problems, EXIT.refused, "request");
}
