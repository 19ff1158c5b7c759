import { EXIT, runCommand, UserError } from "./lib/errors.ts";
import { openWorkloads } from "./lib/open-workloads.ts";
import { parseCommand } from "./lib/options.ts";
import { readRunStatus } from "./lib/run-status.ts";
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
  if (run === undefined || !(await workloads.state(run.container)).running) {
    console.log(run === undefined ? "the stack has no run" : `the run ${run.name} is not in progress`);
    return;
  }
  const { stopGrace } = readInputs(stack).settings.training;
  await step(`stop ${run.name}`, async (report) => {
    report("saving a checkpoint");
    await workloads.stop(run.container, stopGrace);
    const { exitCode } = await workloads.state(run.container);
    const status = await readRunStatus(workloads, run.container, run.name);
    if (exitCode !== STOPPED_ON_REQUEST && exitCode !== 0) throw notSaved(run.name, exitCode, stopGrace);
    return {
      said: `stopped at step ${status?.step ?? "?"}, checkpoint ${status?.last_checkpoint?.path ?? "none yet"}`,
      value: undefined,
    };
  });
});

function notSaved(run: string, exitCode: number | undefined, stopGrace: number): UserError {
  return new UserError(
    [
      {
        path: `run ${run}`,
        reason: `ended with exit code ${exitCode}, without saving within ${stopGrace} s; its last checkpoint stands`,
        remedy: "give it longer: npx pulumi config set --path tunestack:training.stopGrace 300s",
      },
    ],
    EXIT.run,
    "run",
  );
}
