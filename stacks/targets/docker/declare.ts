import { type DockerOutputs, planOutputs } from "../../outputs.ts";
import type { Plan } from "../../plan/types.ts";
import type { InputsOf } from "../../settings/load.ts";
import { SettingsError } from "../../settings/problems.ts";
import { readEngine } from "./engine.ts";
import { engineProblems, imageOfSameRun, wantedPorts } from "./preflight.ts";
import { containerName, ownerOf, volumeName } from "./render.ts";
import { DockerStack } from "./stack.ts";

/**
 * Declares a plan on a Docker engine, after a look at what the engine already holds.
 * @throws SettingsError when a name or port is taken, a run in progress would be replaced, or the engine does not answer.
 */
export async function declareDockerStack(inputs: InputsOf<"docker">, plan: Plan): Promise<object> {
  const { prefix, host } = inputs.settings.docker;
  const naming = { prefix, owner: ownerOf(inputs.stack, inputs.projectDir) };
  const engine = await readEngine(host, wantedPorts(plan));
  const problems = engineProblems(plan, naming, engine);
  if (problems.length > 0) throw new SettingsError(problems, "Docker engine");

  const runImage = plan.run === undefined ? undefined : imageOfSameRun(plan.run, naming, engine);
  const stack = new DockerStack("tunestack", { plan, naming, projectDir: inputs.projectDir, host, runImage });
  const known: Omit<DockerOutputs, "images"> = {
    ...planOutputs(plan, {
      container: (name) => containerName(naming, name),
      volume: (name) => volumeName(naming, name),
    }),
    target: "docker",
    ...(host === undefined ? {} : { engine: host }),
  };
  return { ...known, images: stack.images };
}
