import { EXIT, runCommand, UserError } from "./lib/errors.ts";
import { openWorkloads } from "./lib/open-workloads.ts";
import { parseCommand } from "./lib/options.ts";
import { type RunStatus, readRunStatus } from "./lib/run-status.ts";
import { readInputs, requireOutputs } from "./lib/stack.ts";
import { step } from "./lib/steps.ts";

const SPEC = {
  name: "train-stop",
  summary: "Stops the run cleanly: it saves a checkpoint first. The same train command goes on from there.",
} as const;

/** Exit code of a run that saved a checkpoint because it was asked to stop. */
const STOPPED_ON_REQUEST = 75;

await runCommand(async () => {
  const { stack } = parseCommand(SPEC);
  const outputs = await requireOutputs(stack);
  const { run } = outputs;
  const workloads = await openWorkloads(outputs);
  const before = run === undefined ? undefined : await workloads.state(run.container);
  if (run === undefined || before?.running !== true) {
    console.log(run === undefined ? "the stack has no run" : `the run ${run.name} is not in progress`);
    return;
  }
  const { stopGrace } = readInputs(stack).settings.training;
  await step(`stop ${run.name}`, async (report) => {
    if (!before.reachable && before.waitsFor !== undefined) {
      await workloads.stop(run.container, stopGrace);
      return { said: `stopped before it began: ${before.waitsFor}`, value: undefined };
    }
    report("saving a checkpoint");
    await workloads.stop(run.container, stopGrace);
    const { exitCode } = await workloads.state(run.container);
    const status = await readRunStatus(workloads, run.container, run.name);
    if (!hasSaved(exitCode, status)) throw notSaved(run.name, exitCode, stopGrace);
    return {
      said: `stopped at step ${status?.step ?? "?"}, checkpoint ${status?.last_checkpoint?.path ?? "none yet"}`,
      value: undefined,
    };
  });
});

/** Where the container is gone with its exit code, what the run wrote last tells it. */
function hasSaved(exitCode: number | undefined, status: RunStatus | undefined): boolean {
  if (exitCode !== undefined) return exitCode === STOPPED_ON_REQUEST || exitCode === 0;
  return status?.state === "stopped" || status?.state === "completed";
}

function notSaved(run: string, exitCode: number | undefined, stopGrace: number): UserError {
  return new UserError(
    [
      {
        path: `run ${run}`,
        reason: `ended${exitCode === undefined ? "" : ` with exit code ${exitCode}`}, without saving within ${stopGrace} s; its last checkpoint stands`,
        remedy: "give it longer: npx pulumi config set --path tunestack:training.stopGrace 300s",
      },
    ],
    EXIT.run,
    "run",
  );
}
