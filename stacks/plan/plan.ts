import type { StackInputs } from "../settings/load.ts";
import { type Problem, SettingsError } from "../settings/problems.ts";
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
  const problems = [...acceleratorProblems(inputs), ...(training ? runProblems(inputs, accelerator) : [])];
  if (problems.length > 0) throw new SettingsError(problems);
  return {
    stack: inputs.stack,
    image: planImage(inputs, accelerator),
    volumes: VOLUMES,
    ...planServices(inputs, accelerator),
    run: training ? planRun(inputs, accelerator) : undefined,
  };
}

/** What is said of this machine says nothing of an engine elsewhere. */
function acceleratorProblems({ settings, machine }: StackInputs): readonly Problem[] {
  const elsewhere = settings.docker.host !== undefined && !settings.docker.host.startsWith("unix://");
  if (settings.accelerator !== "cuda" || machine.accelerator === "cuda" || elsewhere) return [];
  return [
    {
      path: "accelerator",
      value: settings.accelerator,
      reason: "needs an NVIDIA GPU, and this machine offers none to containers",
      remedy: "npm run doctor says what is missing; set it to auto or cpu to go on without",
    },
  ];
}

function chooseAccelerator({ settings, machine }: StackInputs): "cuda" | "cpu" {
  return settings.accelerator === "auto" ? machine.accelerator : settings.accelerator;
}
