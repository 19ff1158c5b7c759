import type { PresetName } from "../../stacks/settings/presets.ts";
import { presetFacts } from "../../stacks/settings/presets.ts";
import { parseSettings } from "./assignments.ts";
import { runCommand } from "./errors.ts";
import { type OptionSpec, parseCommand } from "./options.ts";
import { trainAndFollow } from "./train.ts";

/** Options that every command which starts a run has. */
export const RUN_OPTIONS = {
  name: {
    type: "string",
    value: "NAME",
    help: "name of the run (default: the preset or model with the time; the same settings go on with their run)",
  },
  data: {
    type: "string",
    value: "PATH",
    help: "file or folder of JSONL, JSON, CSV or Parquet, or hub:ID (environment: DATA)",
  },
  set: {
    type: "string",
    multiple: true,
    value: "KEY=VALUE",
    help: "any setting of the training package, such as max_steps=200; may be repeated",
  },
} as const satisfies Record<string, OptionSpec>;

/** The command that trains a preset. */
export async function runPreset(preset: PresetName): Promise<never> {
  return await runCommand(async () => {
    const options = parseCommand({
      name: `train-${preset}`,
      summary: `Fine-tunes ${presetFacts(preset).model} by QLoRA on an NVIDIA GPU and follows the run.`,
      options: RUN_OPTIONS,
      examples: [
        `HF_TOKEN=hf_… npm run train-${preset}`,
        `npm run train-${preset} -- --data notes.jsonl --set max_steps=200`,
      ],
    });
    await trainAndFollow(options.stack, {
      name: options.text("name"),
      preset,
      model: undefined,
      data: options.text("data") ?? process.env.DATA,
      set: parseSettings(options.list("set")),
    });
  });
}
