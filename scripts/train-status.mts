import { runCommand } from "./lib/errors.ts";
import { openWorkloads } from "./lib/open-workloads.ts";
import { parseCommand } from "./lib/options.ts";
import { formatOverview, readOverview } from "./lib/overview.ts";
import { requireOutputs } from "./lib/stack.ts";

const SPEC = {
  name: "train-status",
  summary: "One screen: services, run, last checkpoint and its age, GPU or CPU, last backup and its age, disk.",
  json: true,
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const outputs = await requireOutputs(options.stack);
  const overview = await readOverview(await openWorkloads(outputs), outputs);
  console.log(options.json ? JSON.stringify(overview, null, 2) : formatOverview(overview));
});
