import type { Stack } from "@pulumi/pulumi/automation/index.js";
import { UserError } from "../errors.ts";
import { openWorkloads } from "../open-workloads.ts";
import { readRunStatus } from "../run-status.ts";
import { readOutputs } from "../stack.ts";
import type { LiveRun } from "./consequences.ts";

/** The run that the stack has in progress; undefined where none is, or where there is no way to it from here. */
export async function readLiveRun(stack: Stack): Promise<LiveRun | undefined> {
  const outputs = await readOutputs(stack);
  if (outputs?.run === undefined) return undefined;
  const { name, container } = outputs.run;
  const workloads = await openWorkloads(outputs).catch((error: unknown) => {
    // A machine that previews in CI need have no way to the VM; what changes is told all the same.
    if (error instanceof UserError) return undefined;
    throw error;
  });
  if (workloads === undefined) return undefined;
  const { running } = await workloads.state(container);
  if (!running) return undefined;
  const status = await readRunStatus(workloads, container, name);
  return { name, step: status?.step, maxSteps: status?.max_steps ?? undefined };
}
