import { setTimeout as sleep } from "node:timers/promises";
import type { RunOutput } from "../../stacks/outputs.ts";
import { EXIT, UserError } from "./errors.ts";
import { progressLine, type RunStatus, readRunStatus } from "./run-status.ts";
import type { Report } from "./steps.ts";
import type { Workloads } from "./workloads.ts";

const FINAL = new Set<RunStatus["state"]>(["completed", "stopped", "failed"]);

/**
 * Follows a run until it ends.
 * @returns its last status.
 * @throws UserError when it fails, with what it said.
 */
export async function followRun(workloads: Workloads, run: RunOutput, report: Report): Promise<RunStatus> {
  for (;;) {
    const state = await workloads.state(run.container);
    if (state.running && !state.reachable) {
      report(state.waitsFor ?? state.health);
      await sleep(workloads.lookMs);
      continue;
    }
    const status = await readRunStatus(workloads, run.container, run.name);
    // What stands there from before this start says nothing of it.
    const current =
      status !== undefined && (state.startedAt === undefined || status.updated_at >= state.startedAt.slice(0, 19));
    if (status !== undefined && current) report(progressLine(status, state.machine));
    else if (state.machine !== undefined) report(`starts on ${state.machine}`);
    if (status?.state === "failed" && current) throw failed(run, status);
    if (!state.running) {
      if (status !== undefined && FINAL.has(status.state) && state.exists) return status;
      throw await endedWithout(workloads, run, state.exitCode);
    }
    await sleep(workloads.lookMs);
  }
}

function failed(run: RunOutput, status: RunStatus): UserError {
  return new UserError(
    [
      {
        path: `run ${run.name}`,
        reason: status.error?.message ?? `failed with exit code ${status.exit_code}`,
        remedy: status.error?.remedy ?? "npm run train-logs shows what it said",
      },
    ],
    EXIT.run,
    "run",
  );
}

async function endedWithout(workloads: Workloads, run: RunOutput, exitCode: number | undefined): Promise<UserError> {
  const said = (await workloads.lastLines(run.container, 8)).trim().replaceAll("\n", "\n    ");
  const reason =
    exitCode === undefined
      ? "its container is gone"
      : `ended with exit code ${exitCode}${exitCode === 137 ? " (killed, or out of memory)" : ""}`;
  return new UserError(
    [
      {
        path: `run ${run.name}`,
        reason: said === "" ? reason : `${reason}:\n    ${said}`,
        remedy: "mend what it says, then start it again: it resumes from its newest checkpoint",
      },
    ],
    EXIT.run,
    "run",
  );
}
