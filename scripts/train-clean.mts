import { createInterface } from "node:readline/promises";
import { engineSettings } from "../stacks/settings/engine.ts";
import { hasTarget, type StackInputs } from "../stacks/settings/load.ts";
import { type Inventory, inventoryOf, isEmpty, readListing } from "./lib/clean/inventory.ts";
import { checkpointProblems, refuse, runInProgress } from "./lib/clean/refusals.ts";
import { formatRemoval, planRemoval, type Removal } from "./lib/clean/removal.ts";
import { removeEverything } from "./lib/clean/remove.ts";
import { findUnsaved } from "./lib/clean/unsaved.ts";
import { Containers } from "./lib/containers.ts";
import { readEngineFacts } from "./lib/doctor/read-machine.ts";
import { machineError, runCommand, type UserError, usageError } from "./lib/errors.ts";
import { namingOf } from "./lib/naming.ts";
import { type Parsed, parseCommand } from "./lib/options.ts";
import { readInputs } from "./lib/stack.ts";
import { step } from "./lib/steps.ts";

const SPEC = {
  name: "train-clean",
  summary:
    "Removes what the stack made: containers, network, images, and the volumes of models, logs and the W&B server. Says\nwhat would be lost and asks. Checkpoints and snapshots stay unless you name them.",
  options: {
    yes: { type: "boolean", help: "does not ask" },
    checkpoints: { type: "boolean", help: "removes the runs' checkpoints and adapters too" },
    backups: { type: "boolean", help: "removes the snapshots too" },
    force: { type: "boolean", help: "removes checkpoints that are in no backup" },
  },
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const inputs = readInputs(options.stack);
  if (!hasTarget(inputs, "docker")) throw notOnAnEngine(inputs);
  const { host } = engineSettings(inputs);
  const containers = new Containers(host === undefined ? {} : { engine: host });
  const { facts } = await readEngineFacts(containers.client, host);
  if ("problem" in facts) throw machineError(facts.problem);
  const inventory = inventoryOf(await readListing(containers.client), options.stack, namingOf(inputs));
  if (isEmpty(inventory)) {
    console.log(`the stack ${options.stack} has nothing on this engine`);
    return;
  }
  const removal = planRemoval(inventory, {
    checkpoints: options.flag("checkpoints"),
    backups: options.flag("backups"),
  });
  console.log(`${formatRemoval(inventory, removal)}\n`);
  if (isEmpty({ ...inventory, volumes: removal.removed })) {
    console.log("nothing else of the stack is there");
    return;
  }
  await refuseLoss(containers, inputs, inventory, removal, options);
  if (!(await confirmed(options))) {
    console.log("nothing was removed");
    return;
  }
  await removeEverything(containers.client, inputs, removal);
  console.log(
    "\nnpm start brings everything back; docker builder prune frees the build cache, which other projects share",
  );
});

function notOnAnEngine({ stack, settings }: StackInputs): UserError {
  return usageError({
    path: "--stack",
    value: stack,
    reason: `is of the target ${settings.target}, and this command removes what is on an engine`,
    remedy: `npx pulumi destroy --stack ${stack} takes it down; disks and bucket stay, and go by hand alone`,
  });
}

async function refuseLoss(
  containers: Containers,
  inputs: StackInputs,
  inventory: Inventory,
  removal: Removal,
  options: Parsed,
): Promise<void> {
  const running = runInProgress(inventory, options.stack);
  if (running !== undefined) throw refuse([running]);
  const loses = removal.removed.some(({ volume, bytes }) => volume === "training_checkpoints" && bytes !== 0);
  if (!loses || options.flag("force")) return;
  const unsaved = await step("newest checkpoints", async () => {
    const value = await findUnsaved(containers, inputs);
    return { said: "compared with the newest snapshot", value };
  });
  const localRepository = inputs.settings.backup.repository === undefined;
  const problems = checkpointProblems(unsaved, { backups: options.flag("backups") }, localRepository);
  if (problems.length > 0) throw refuse(problems);
}

async function confirmed(options: Parsed): Promise<boolean> {
  if (options.flag("yes")) return true;
  if (!process.stdin.isTTY) {
    throw refuse([
      {
        path: "npm run train-clean",
        reason: "asks before it removes anything, and there is no terminal to answer on",
        remedy: "npm run train-clean -- --yes",
      },
    ]);
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question("Remove all this? [y/N] ");
  terminal.close();
  return /^y(es)?$/i.test(answer.trim());
}
