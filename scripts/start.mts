import { Containers } from "./lib/containers.ts";
import { runCommand } from "./lib/errors.ts";
import { parseCommand } from "./lib/options.ts";
import { formatOverview, readOverview } from "./lib/overview.ts";
import { setPersonal } from "./lib/personal.ts";
import { secretFile } from "./lib/setup/secrets.ts";
import { setUp } from "./lib/setup/setup.ts";
import { readInputs } from "./lib/stack.ts";
import { startAndFollow, up } from "./lib/train.ts";
import { waitForServices } from "./lib/wait.ts";

const SPEC = {
  name: "start",
  summary:
    "Sets up what is missing (npm packages, Docker engine, Pulumi, image), brings the stack up, runs its first fine-tune\nand prints every service with its address. What is there is not done again.",
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  readInputs(options.stack);
  await setUp(options.stack);
  setPersonal(options.stack, { profiles: undefined });
  const outputs = await up(options.stack);
  if (outputs.run !== undefined) await startAndFollow(outputs, outputs.run);
  const containers = new Containers(outputs);
  await waitForServices(containers, outputs);
  console.log(`\n${formatOverview(await readOverview(containers, outputs))}\n`);
  console.log(nextSteps(options.stack));
});

function nextSteps(stack: string): string {
  return [
    "next",
    "  npm run train-custom -- --preset gemma-2b --data YOUR.jsonl   fine-tune on your own data",
    "  npm run train-status                                          this screen again",
    "  npm run restore -- list                                       the snapshots",
    "  npx pulumi destroy                                            take it down; the volumes stay",
    `Jupyter's token stands in ${secretFile(stack, "jupyter-token")}`,
  ].join("\n");
}
