import { resolve } from "node:path";
import { chooseAccelerator } from "../stacks/plan/plan.ts";
import { planExport } from "../stacks/plan/run.ts";
import { EXIT, runCommand, UserError } from "./lib/errors.ts";
import { bringOut, formatExported, readExported, refuseExisting } from "./lib/export.ts";
import { namingOf } from "./lib/naming.ts";
import { openWorkloads } from "./lib/open-workloads.ts";
import { type Parsed, parseCommand } from "./lib/options.ts";
import { readInputs, requireOutputs } from "./lib/stack.ts";
import { step } from "./lib/steps.ts";
import type { Archive, Ended } from "./lib/workloads.ts";

const SPEC = {
  name: "export",
  summary:
    "Merges a run's checkpoint into its base model, writes safetensors and GGUF with a Modelfile, reads each file back and\ncompares it with the adapter: what drifts is not kept. What was exported before is not done again.",
  options: {
    run: { type: "string", value: "NAME", help: "name of the run (default: the stack's own)" },
    checkpoint: { type: "string", value: "N|best|last", help: "which checkpoint (default: best, else the last)" },
    quantisation: {
      type: "string",
      multiple: true,
      value: "NAME",
      help: "q8_0 (default), q5_1, q5_0, q4_1, q4_0, or none for safetensors alone; may be repeated",
    },
    "max-kl": { type: "string", multiple: true, value: "STAGE=NATS", help: "bound of a stage, such as q4_0=0.3" },
    "min-top1": { type: "string", multiple: true, value: "STAGE=SHARE", help: "bound of a stage, such as q4_0=0.7" },
    base: { type: "string", value: "FOLDER", help: "the base model, where it is not where it was in training" },
    to: { type: "string", value: "FOLDER", help: "copies the exported files into this new folder" },
  },
  json: true,
  examples: [
    "npm run export",
    "npm run export -- --run first-run --checkpoint last --quantisation q8_0 --quantisation q4_0 --to ./first-run",
  ],
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const to = folderOf(options, "to");
  if (to !== undefined) refuseExisting(to);
  const inputs = readInputs(options.stack);
  const outputs = await requireOutputs(options.stack);
  const run = options.text("run") ?? outputs.run?.name;
  const image = outputs.images.training;
  if (run === undefined || image === undefined) throw withoutTraining(options.stack);
  const workload = planExport(inputs, chooseAccelerator(inputs), argumentsOf(run, options), folderOf(options, "base"));
  const workloads = await openWorkloads(outputs);
  const container = `${namingOf(inputs).prefix}agent-export-${run}`;
  const exported = await step(`export ${run}`, async (report) => {
    const collect = async (archive: Archive, ended: Ended) => {
      if (to === undefined) return;
      report(`copying to ${to}`);
      await bringOut(archive, readExported(run, ended).folder, to);
    };
    const ended = await workloads.runOneOff(inputs, { container, image, workload, tell: report, collect });
    const value = readExported(run, ended);
    return { said: `${value.checkpoint}, ${value.chosen_as}${value.fresh ? "" : "; exported before"}`, value };
  });
  console.log(options.json ? JSON.stringify({ ...exported, to: to ?? null }, null, 2) : formatExported(exported, to));
});

function folderOf(options: Parsed, name: string): string | undefined {
  const given = options.text(name);
  return given === undefined ? undefined : resolve(given);
}

function argumentsOf(run: string, options: Parsed): readonly string[] {
  const checkpoint = options.text("checkpoint");
  return [
    run,
    ...(checkpoint === undefined ? [] : [`--checkpoint=${checkpoint}`]),
    ...["quantisation", "max-kl", "min-top1"].flatMap((name) =>
      options.list(name).map((value) => `--${name}=${value}`),
    ),
    "--json",
  ];
}

function withoutTraining(stack: string): UserError {
  return new UserError(
    [
      {
        path: `stack ${stack}`,
        reason: "has no run and no training image: the profile training is not up",
        remedy: "npm start, or one of the train- commands",
      },
    ],
    EXIT.stack,
    "stack",
  );
}
