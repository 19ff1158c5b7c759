import { createInterface } from "node:readline/promises";
import { hasTarget, type StackInputs } from "../stacks/settings/load.ts";
import { notByThisCommand } from "./lib/clean/cloud.ts";
import { checkpointProblems, refuse } from "./lib/clean/refusals.ts";
import { formatRemoval, planRemoval, type Removal } from "./lib/clean/removal.ts";
import type { Site } from "./lib/clean/site.ts";
import { runCommand } from "./lib/errors.ts";
import { type Parsed, parseCommand } from "./lib/options.ts";
import { DEFAULT_STACK } from "./lib/project.ts";
import { readInputs } from "./lib/stack.ts";
import { step } from "./lib/steps.ts";

const SPEC = {
  name: "train-clean",
  summary:
    "Removes what the stack made, on an engine or in a cluster that is not of its making: containers, network, images, and the\nvolumes of models, logs and the W&B server. Says what would be lost and asks. Checkpoints and snapshots stay unless you name them.",
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
  const site = await openSite(inputs);
  if (site.rows.length + site.volumes.length === 0) {
    console.log(`the stack ${options.stack} has nothing ${site.where}`);
    return;
  }
  const removal = planRemoval(site, { checkpoints: options.flag("checkpoints"), backups: options.flag("backups") });
  console.log(`${formatRemoval(site.rows, removal)}\n`);
  if (site.rows.length + removal.removed.length === 0) {
    console.log("nothing else of the stack is there");
    return;
  }
  await refuseLoss(site, inputs, removal, options);
  if (!(await confirmed(options))) {
    console.log("nothing was removed");
    return;
  }
  console.log(`\n${await site.remove(removal)}`);
});

async function openSite(inputs: StackInputs): Promise<Site> {
  if (hasTarget(inputs, "docker")) {
    const { openEngineSite } = await import("./lib/clean/engine-site.ts");
    return await openEngineSite(inputs);
  }
  if (hasTarget(inputs, "kubernetes")) {
    const { openClusterSite } = await import("./lib/clean/cluster-site.ts");
    return await openClusterSite(inputs);
  }
  throw notByThisCommand(inputs);
}

async function refuseLoss(site: Site, inputs: StackInputs, removal: Removal, options: Parsed): Promise<void> {
  if (site.inProgress.length > 0) throw refuse(site.inProgress);
  const loses = removal.removed.some(({ volume, bytes }) => volume === "training_checkpoints" && bytes !== 0);
  if (!loses || options.flag("force")) return;
  const unsaved = await step("newest checkpoints", async () => {
    const value = await site.findUnsaved();
    return { said: "compared with the newest snapshot", value };
  });
  const { stack, settings } = inputs;
  const problems = checkpointProblems(
    unsaved,
    { backups: options.flag("backups") },
    { stack, localRepository: settings.backup.repository === undefined, up: upCommand(inputs) },
  );
  if (problems.length > 0) throw refuse(problems);
}

function upCommand({ stack, settings }: StackInputs): string {
  return settings.target === "docker" && stack === DEFAULT_STACK ? "npm start" : `npx pulumi up --stack ${stack}`;
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
