import { runCommand } from "./lib/errors.ts";
import { openWorkloads } from "./lib/open-workloads.ts";
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
  const { accelerator } = await setUp(options.stack);
  setPersonal(options.stack, { profiles: undefined });
  const outputs = await up(options.stack);
  if (outputs.run !== undefined) await startAndFollow(await openWorkloads(outputs), outputs.run);
  const workloads = await openWorkloads(outputs);
  await waitForServices(workloads, outputs);
  console.log(`\n${formatOverview(await readOverview(workloads, outputs))}\n`);
  console.log(nextSteps(options.stack, accelerator));
});

function nextSteps(stack: string, accelerator: "cuda" | "cpu"): string {
  const preset = accelerator === "cuda" ? "gemma-2b" : "rehearsal";
  return [
    "next",
    `  ${`npm run train-custom -- --preset ${preset} --data YOUR.jsonl`.padEnd(62)}fine-tune on your own data`,
    `  ${"npm run train-status".padEnd(62)}this screen again`,
    `  ${"npm run restore -- list".padEnd(62)}the snapshots`,
    `  ${"npx pulumi destroy".padEnd(62)}take it down; the volumes stay`,
    `Jupyter's token stands in ${secretFile(stack, "jupyter-token")}`,
  ].join("\n");
}
