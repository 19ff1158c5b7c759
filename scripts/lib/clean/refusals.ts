import type { Problem } from "../../../stacks/settings/problems.ts";
import { EXIT, UserError } from "../errors.ts";
import { command, DEFAULT_STACK } from "../project.ts";
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
    remedy: `${command("train-stop", stack)} stops it and saves a checkpoint; then the same command again`,
  };
}

export interface Place {
  readonly stack: string;
  /** The snapshots are in the volume that --backups removes. */
  readonly localRepository: boolean;
  /** What brings the stack up. Example: `npm start`. */
  readonly up: string;
}

/** Why the checkpoints may not go; empty where they may. */
export function checkpointProblems(
  unsaved: Unsaved,
  { backups }: Pick<CleanOptions, "backups">,
  { stack, localRepository, up }: Place,
): readonly Problem[] {
  if (unsaved.kind === "unknown") {
    return [
      {
        path: "volume training_checkpoints",
        reason: `nobody can tell whether the newest checkpoint is in a backup: ${unsaved.why}`,
        remedy: `${up}, ${command("backup", stack)}, then the same command again; or lose them: --force`,
      },
    ];
  }
  if (backups && localRepository) {
    return [
      {
        path: "--checkpoints --backups",
        reason: "the checkpoints and the snapshots of them would both be gone",
        remedy: `leave one of the two out; ${copyCommand(stack)} keeps a copy; or lose them: --force`,
      },
    ];
  }
  return unsaved.checkpoints.map(({ run, manifest }) => ({
    path: `run ${run}`,
    value: manifest.replace(/\/manifest\.json$/, ""),
    reason: "the newest checkpoint is in no backup",
    remedy: `${command("backup", stack)}, then the same command again; or lose it: --force`,
  }));
}

function copyCommand(stack: string): string {
  return `npm run restore -- latest --to FOLDER${stack === DEFAULT_STACK ? "" : ` --stack ${stack}`}`;
}

export function refuse(problems: readonly Problem[]): UserError {
  return new UserError(problems, EXIT.refused, "request");
}
