import type { StackInputs } from "../settings/load.ts";
import { type Problem, SettingsError } from "../settings/problems.ts";
import type { Settings } from "../settings/schema.ts";
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
  if (settings.accelerator !== "cuda" || machine.accelerator === "cuda" || isElsewhere(settings)) return [];
  return [
    {
      path: "accelerator",
      value: settings.accelerator,
      reason: "needs an NVIDIA GPU, and this machine offers none to containers",
      remedy: "npm run doctor says what is missing; set it to auto or cpu to go on without",
    },
  ];
}

function isElsewhere(settings: Settings): boolean {
  switch (settings.target) {
    case "docker":
      return settings.docker.host !== undefined && !settings.docker.host.startsWith("unix://");
    case "gcp-vm":
    case "kubernetes":
    case "gke":
      return true;
  }
}

/** What runs where the settings leave it open: what this machine offers, or the GPU that is rented. */
export function chooseAccelerator({ settings, machine }: StackInputs): "cuda" | "cpu" {
  if (settings.accelerator !== "auto") return settings.accelerator;
  switch (settings.target) {
    case "docker":
      return machine.accelerator;
    case "gcp-vm":
      return "cuda";
    case "kubernetes":
      return settings.kubernetes.queue.pools.some(({ gpu }) => gpu !== "none") ? "cuda" : "cpu";
    case "gke":
      return settings.gke.queue.pools.some(({ gpu }) => gpu !== "none") ? "cuda" : "cpu";
  }
}
