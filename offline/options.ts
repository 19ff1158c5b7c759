import type { Report } from "./build.ts";
import type { ReachableOptions } from "./reachable.ts";

export interface SetupOptions {
  /** The project's own PULUMI_HOME: `.tunestack/pulumi-home`. */
  readonly pulumiHome: string;
  /** Where builds are kept for all clones of a person: `~/.cache/tunestack`. */
  readonly cacheDir: string;
  /** Takes one line of progress. */
  readonly report: Report;
  /** Where the official hosts are asked; for the tests. */
  readonly reachable?: ReachableOptions;
}
