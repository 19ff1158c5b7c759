/** What an update would do to a resource. */
export type Operation = "create" | "update" | "replace" | "delete" | "same";

/** One resource of a stack as a preview shows it, secrets already taken out of its inputs. */
export interface PreviewedResource {
  /** Logical name. Example: `tunestack-jupyter`. */
  readonly name: string;
  /** Type token. Example: `docker:index/container:Container`. */
  readonly type: string;
  readonly operation: Operation;
  /** Inputs after the update; those of before for what is deleted. */
  readonly inputs: Readonly<Record<string, unknown>>;
  /** What exists now; undefined for what is created. */
  readonly before: Readonly<Record<string, unknown>> | undefined;
  /** The cloud or the engine keeps it when the stack no longer declares it. */
  readonly retainOnDelete: boolean;
  /** Pulumi refuses to delete or replace it. */
  readonly protect: boolean;
}

/** One thing that a rule does not let pass. */
export interface Violation {
  /** Name of the rule. Example: `public-exposure`. */
  readonly rule: string;
  /** Logical name of the resource, and where in its inputs. Example: `tunestack-jupyter: ports[0].ip`. */
  readonly path: string;
  /** What stands there; never a secret. */
  readonly value?: string;
  readonly reason: string;
  readonly remedy: string;
}

/** A pure check of all resources of one stack after the update. */
export interface Rule {
  readonly name: string;
  /** What it demands, in one sentence. */
  readonly demands: string;
  readonly check: (resources: readonly PreviewedResource[]) => readonly Violation[];
}
