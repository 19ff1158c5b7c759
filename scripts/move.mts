import type { StackOutputs } from "../stacks/outputs.ts";
import { refuseRunInProgress, requireBackup } from "./lib/backup.ts";
import { EXIT, runCommand, UserError, usageError } from "./lib/errors.ts";
import { type End, moveRun } from "./lib/move.ts";
import { openWorkloads } from "./lib/open-workloads.ts";
import { parseCommand } from "./lib/options.ts";
import { readInputs, requireOutputs } from "./lib/stack.ts";
import { step } from "./lib/steps.ts";
import { goOnWith, type MovedRun } from "./lib/train.ts";
import type { Workloads } from "./lib/workloads.ts";

const SPEC = {
  name: "move",
  summary:
    "Takes a run from one stack into another: its last good checkpoints and its logs, verified where they arrive. It goes on\nthere with the settings that it has here.",
  operands: { names: "FROM TO", atMost: 2, help: "the stacks, such as: dev prod" },
  options: {
    run: { type: "string", value: "NAME", help: "which run (default: that of the stack FROM)" },
    force: { type: "boolean", help: "also in the place of a run that has gone further there" },
    "no-start": { type: "boolean", help: "brings it there and starts nothing" },
  },
  examples: ["npm run move -- dev prod", "npm run move -- prod dev --no-start"],
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const [from, to] = options.operands;
  if (from === undefined || to === undefined || from === to) {
    throw usageError({
      path: "npm run move",
      value: options.operands.join(" "),
      reason: "needs two stacks: from where, and to where",
      remedy: SPEC.examples[0],
    });
  }
  const source = await endOf(from);
  const run = options.text("run") ?? source.outputs.run?.name;
  if (run === undefined) {
    throw usageError({ path: "--run", reason: `the stack ${from} has no run`, remedy: "name one: --run NAME" });
  }
  await refuseRunInProgress(source.workloads, source.outputs, run, `npm run train-stop -- --stack ${from}`);
  const target = await endOf(to);
  await refuseRunInProgress(target.workloads, target.outputs, run, `npm run train-stop -- --stack ${to}`);
  await step(`move ${run}`, async (report) => {
    const moved = await moveRun(source, target, run, options.flag("force"), report);
    const at = moved.step === null ? "without a checkpoint" : `at step ${moved.step}`;
    return { said: `in ${to}, ${at}, ${moved.verified_manifests} manifests verified`, value: undefined };
  });
  if (options.flag("no-start")) return;
  await goOnWith(to, settingsOf(from, run));
});

interface OpenedEnd extends End {
  readonly outputs: StackOutputs;
  readonly workloads: Workloads;
}

async function endOf(stack: string): Promise<OpenedEnd> {
  const outputs = await requireOutputs(stack);
  const workloads = await openWorkloads(outputs);
  return { outputs, workloads, container: await requireBackup(workloads, outputs) };
}

/** The settings of a run are known of the one that a stack is set to. */
function settingsOf(stack: string, run: string): MovedRun {
  const { training } = readInputs(stack).settings;
  if (training.run === run) return training;
  throw new UserError(
    [
      {
        path: `run ${run}`,
        reason: `was moved; the stack ${stack} is set to the run ${training.run}, so that its settings are not known`,
        remedy: `start it with those that it was begun with: npm run train-custom -- --name ${run} …`,
      },
    ],
    EXIT.settings,
    "run",
  );
}
