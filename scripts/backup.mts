import { formatBytes, formatDuration } from "../stacks/settings/units.ts";
import { askBackup, requireBackup, takenSchema } from "./lib/backup.ts";
import { runCommand } from "./lib/errors.ts";
import { openWorkloads } from "./lib/open-workloads.ts";
import { parseCommand } from "./lib/options.ts";
import { requireOutputs } from "./lib/stack.ts";
import { step } from "./lib/steps.ts";

const SPEC = {
  name: "backup",
  summary: "Takes a snapshot of checkpoints, logs and exported models now, beside those of each hour.",
  json: true,
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const outputs = await requireOutputs(options.stack);
  const workloads = await openWorkloads(outputs);
  const container = await requireBackup(workloads, outputs);
  const started = Date.now();
  const taken = await step("snapshot", async (report) => {
    report("hashing, saving and checking");
    const value = await askBackup(workloads, container, ["now"], takenSchema);
    return { said: `${value.snapshot_id}, ${formatBytes(value.bytes)}`, value };
  });
  const seconds = Math.round((Date.now() - started) / 100) / 10;
  if (options.json) {
    console.log(JSON.stringify({ ...taken, seconds }, null, 2));
    return;
  }
  console.log(
    [
      `snapshot    ${taken.snapshot_id}`,
      `holds       ${formatBytes(taken.bytes)}, ${taken.checkpoints} complete checkpoints and adapters`,
      `added       ${formatBytes(taken.added_bytes)} to the repository`,
      `took        ${formatDuration(seconds)}`,
      ...taken.excluded.map(({ path, reason }) => `left out    ${path}: ${reason}`),
      ...taken.warnings.map((warning) => `warning     ${warning}`),
    ].join("\n"),
  );
});
