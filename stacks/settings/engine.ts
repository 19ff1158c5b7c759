import { hasTarget, type InputsOf, type StackInputs } from "./load.ts";

/** The block `docker`: the engine that a stack is on, and what stands before its names. */
export type EngineSettings = InputsOf<"docker">["settings"]["docker"];

/**
 * The engine from which this machine serves the stack: for the target `docker` its containers are there; for the others
 * its images are built there, and nothing else of theirs is.
 */
export function engineSettings(inputs: StackInputs): EngineSettings {
  return hasTarget(inputs, "docker") ? inputs.settings.docker : { prefix: "" };
}
