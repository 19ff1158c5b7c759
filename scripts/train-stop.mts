import { Containers } from "./lib/containers.ts";
import { EXIT, runCommand, UserError } from "./lib/errors.ts";
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
  const { run, ...outputs } = await requireOutputs(stack);
  const containers = new Containers(outputs);
  if (run === undefined || !(await containers.state(run.container)).running) {
    console.log(run === undefined ? "the stack has no run" : `the run ${run.name} is not in progress`);
    return;
  }
  const { stopGrace } = readInputs(stack).settings.training;
  await step(`stop ${run.name}`, async (report) => {
    report("saving a checkpoint");
    await containers.client.getContainer(run.container).stop({ t: stopGrace });
    const { exitCode } = await containers.state(run.container);
    const status = await readRunStatus(containers, run.container, run.name);
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
