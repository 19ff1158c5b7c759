import type { Stack } from "@pulumi/pulumi/automation/index.js";
import { Containers } from "../containers.ts";
import { readRunStatus } from "../run-status.ts";
import { readOutputs } from "../stack.ts";
import type { LiveRun } from "./consequences.ts";

/** The run that the stack has in progress; undefined where none is, or where the engine does not answer. */
export async function readLiveRun(stack: Stack): Promise<LiveRun | undefined> {
  const outputs = await readOutputs(stack);
  if (outputs?.target !== "docker" || outputs.run === undefined) return undefined;
  const { name, container } = outputs.run;
  const containers = new Containers(outputs);
  const { running } = await containers.state(container);
  if (!running) return undefined;
  const status = await readRunStatus(containers, container, name);
  return { name, step: status?.step, maxSteps: status?.max_steps ?? undefined };
}
