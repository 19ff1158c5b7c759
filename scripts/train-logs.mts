import { runCommand, usageError } from "./lib/errors.ts";
import { openWorkloads } from "./lib/open-workloads.ts";
import { parseCommand } from "./lib/options.ts";
import { requireOutputs } from "./lib/stack.ts";

const SPEC = {
  name: "train-logs",
  summary: "Follows what the run or a service prints; Ctrl-C ends the following, not the run.",
  operands: { names: "SERVICE", atMost: 1, help: "qlora-training (default), jupyter, tensorboard, gpu-monitor, …" },
  options: {
    lines: { type: "string", value: "N", help: "how many of the last lines come first (default: 100)" },
    "no-follow": { type: "boolean", help: "prints them and ends" },
  },
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const outputs = await requireOutputs(options.stack);
  const wanted = options.operands[0] ?? "qlora-training";
  const known = new Map<string, string>(outputs.services.map(({ name, container }) => [name, container]));
  if (outputs.run !== undefined) known.set("qlora-training", outputs.run.container);
  const container = known.get(wanted);
  if (container === undefined) {
    throw usageError({
      path: "SERVICE",
      value: wanted,
      reason: "is no service of this stack",
      remedy: `use one of: ${[...known.keys()].join(", ")}`,
    });
  }
  const workloads = await openWorkloads(outputs);
  const lines = lineCount(options.text("lines") ?? "100");
  if (options.flag("no-follow")) {
    process.stdout.write(await workloads.lastLines(container, lines));
    return;
  }
  const stop = new AbortController();
  process.on("SIGINT", () => stop.abort());
  await workloads.follow(container, lines, stop.signal);
});

function lineCount(text: string): number {
  const lines = Number(text);
  if (Number.isInteger(lines) && lines >= 0) return lines;
  throw usageError({
    path: "--lines",
    value: text,
    reason: "is not a whole number",
    remedy: "write it as --lines 200",
  });
}
