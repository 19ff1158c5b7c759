import type { StackInputs } from "../settings/load.ts";
import { SettingsError } from "../settings/problems.ts";
import { planImage } from "./image.ts";
import { planRun, runProblems } from "./run.ts";
import { planServices } from "./services.ts";
import type { Plan } from "./types.ts";
import { VOLUMES } from "./volumes.ts";

/**
 * The stack as plain data.
 * @throws SettingsError where the settings cannot work on this machine: missing data, a GPU that is not there, no token.
 */
export function makePlan(inputs: StackInputs): Plan {
  const accelerator = chooseAccelerator(inputs);
  const training = inputs.settings.profiles.includes("training");
  if (training) {
    const problems = runProblems(inputs, accelerator);
    if (problems.length > 0) throw new SettingsError(problems);
  }
  return {
    stack: inputs.stack,
    image: planImage(inputs, accelerator),
    volumes: VOLUMES,
    ...planServices(inputs, accelerator),
    run: training ? planRun(inputs, accelerator) : undefined,
  };
}

function chooseAccelerator({ settings, machine }: StackInputs): "cuda" | "cpu" {
  return settings.accelerator === "auto" ? machine.accelerator : settings.accelerator;
}
