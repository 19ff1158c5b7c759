import type { Problem } from "../../../stacks/settings/problems.ts";
import type { VolumeEntry } from "./inventory.ts";
import type { Removal } from "./removal.ts";
import type { Unsaved } from "./unsaved.ts";

/** Where a stack's things are, as far as cleaning goes: an engine or a cluster. */
export interface Site {
  /** For people. Example: `on this engine`. */
  readonly where: string;
  /** What goes in any case, as what it is, name, size and a note. */
  readonly rows: readonly (readonly string[])[];
  readonly volumes: readonly VolumeEntry[];
  /** What would be killed. */
  readonly inProgress: readonly Problem[];
  readonly findUnsaved: () => Promise<Unsaved>;
  /**
   * What is gone already is no obstacle.
   * @returns what stays or comes next, for people.
   * @throws UserError with what could not be removed, after all the rest was.
   */
  readonly remove: (removal: Removal) => Promise<string>;
}
