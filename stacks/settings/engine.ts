import { hasTarget, type InputsOf, type StackInputs } from "./load.ts";
import { SettingsError } from "./problems.ts";

/** The block `docker`: the engine that a stack is on, and what stands before its names. */
export type EngineSettings = InputsOf<"docker">["settings"]["docker"];

/**
 * The engine of a stack of the target `docker`.
 * @throws SettingsError for a stack of another target.
 */
export function engineSettings(inputs: StackInputs): EngineSettings {
  if (hasTarget(inputs, "docker")) return inputs.settings.docker;
  throw new SettingsError([
    {
      path: "target",
      value: inputs.settings.target,
      reason: `the stack ${inputs.stack} has no engine that this command can reach`,
      remedy: "name a stack of the target docker: --stack dev",
    },
  ]);
}
