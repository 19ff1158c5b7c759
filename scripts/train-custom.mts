import { PRESET_NAMES, type PresetName } from "../stacks/settings/presets.ts";
import { parseSettings } from "./lib/assignments.ts";
import { dryRun } from "./lib/dry-run.ts";
import { runCommand, usageError } from "./lib/errors.ts";
import { parseCommand } from "./lib/options.ts";
import { RUN_OPTIONS } from "./lib/preset-command.ts";
import { inputsOfRequest, type RunRequest, trainAndFollow } from "./lib/train.ts";

const SPEC = {
  name: "train-custom",
  summary: "Fine-tunes any causal language model on your data by QLoRA and follows the run.",
  options: {
    model: { type: "string", value: "ID_OR_PATH", help: "Hugging Face id, or a folder (environment: MODEL)" },
    preset: { type: "string", value: "PRESET", help: `settings to begin with: ${PRESET_NAMES.join(", ")}` },
    ...RUN_OPTIONS,
    "dry-run": {
      type: "boolean",
      help: "shows how the data is read, samples with what is learnt of them, and counts of tokens; trains nothing",
    },
  },
  json: true,
  examples: [
    "npm run train-custom -- --model google/gemma-2-2b --data notes.jsonl",
    "MODEL=./my-model DATA=./data npm run train-custom -- --set learning_rate=1e-4 --set max_steps=500",
    "npm run train-custom -- --preset rehearsal --data notes.jsonl",
    "npm run train-custom -- --model google/gemma-2-2b --data notes.jsonl --dry-run",
  ],
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const model = options.text("model") ?? process.env.MODEL;
  const preset = presetNamed(options.text("preset"));
  if (model === undefined && preset === undefined) {
    throw usageError({
      path: "npm run train-custom",
      reason: "says neither a model nor a preset",
      remedy: "add --model ID_OR_PATH, or --preset rehearsal to try your data on a CPU",
    });
  }
  const request: RunRequest = {
    name: options.text("name"),
    preset,
    model,
    data: options.text("data") ?? process.env.DATA,
    set: parseSettings(options.list("set")),
  };
  if (options.flag("dry-run")) {
    process.exitCode = await dryRun(options.stack, {
      inputs: await inputsOfRequest(options.stack, request),
      json: options.json,
    });
    return;
  }
  if (options.json) {
    throw usageError({
      path: "--json",
      reason: "is for --dry-run; a run is followed by a line for each interval",
      remedy: "add --dry-run, or leave --json away and ask npm run train-status -- --json",
    });
  }
  await trainAndFollow(options.stack, request);
});

function presetNamed(name: string | undefined): PresetName | undefined {
  if (name === undefined) return undefined;
  const known = PRESET_NAMES.find((preset) => preset === name);
  if (known !== undefined) return known;
  throw usageError({
    path: "--preset",
    value: name,
    reason: "is not a preset",
    remedy: `use one of: ${PRESET_NAMES.join(", ")}`,
  });
}
