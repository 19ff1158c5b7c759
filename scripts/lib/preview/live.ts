import type { Stack } from "@pulumi/pulumi/automation/index.js";
import { UserError } from "../errors.ts";
import { openWorkloads } from "../open-workloads.ts";
import { readRunStatus } from "../run-status.ts";
import { readOutputs } from "../stack.ts";

/** A run in progress. */
export interface LiveRun {
  readonly kind: "run";
  readonly name: string;
  /** Undefined where its status cannot be read. */
  readonly step: number | undefined;
  readonly maxSteps: number | undefined;
  /** Until its end at the speed that was measured, in seconds; undefined while there is none. */
  readonly secondsLeft: number | undefined;
}

/** What a stack has in progress, as far as it can be seen from here. */
export type Live =
  | LiveRun
  | { readonly kind: "none" }
  /** There is no way to it: why, in words. */
  | { readonly kind: "unseen"; readonly reason: string };

export const NO_RUN: Live = { kind: "none" };

/** Looks for the run that the stack has in progress. */
export async function readLive(stack: Stack): Promise<Live> {
  const outputs = await readOutputs(stack);
  if (outputs?.run === undefined) return NO_RUN;
  const { name, container } = outputs.run;
  try {
    const workloads = await openWorkloads(outputs);
    const { running } = await workloads.state(container);
    if (!running) return NO_RUN;
    const status = await readRunStatus(workloads, container, name);
    return {
      kind: "run",
      name,
      step: status?.step,
      maxSteps: status?.max_steps ?? undefined,
      secondsLeft: status?.eta_seconds ?? undefined,
    };
  } catch (error) {
    // A machine that previews in CI need have no way to the VM; what changes is told all the same.
    if (error instanceof UserError) return { kind: "unseen", reason: reasonOf(error) };
    throw error;
  }
}

function reasonOf({ problems, message }: UserError): string {
  const [problem] = problems;
  return problem === undefined ? message : `${problem.path} ${problem.reason}`;
}
