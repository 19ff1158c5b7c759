import { engineSettings } from "../../stacks/settings/engine.ts";
import type { StackInputs } from "../../stacks/settings/load.ts";
import { type Naming, ownerOf } from "../../stacks/targets/docker/render.ts";

/** What the stack's containers, volumes and images are called on an engine. */
export function namingOf(inputs: StackInputs): Naming {
  return { prefix: engineSettings(inputs).prefix, owner: ownerOf(inputs.stack, inputs.projectDir) };
}
