import { expect, test } from "vitest";
import { z } from "zod";
import type { WorkloadName } from "../../stacks/plan/types.ts";
import { CUDA_MACHINE } from "../lib/inputs.ts";
import { podTemplates, renderCluster } from "../lib/kubernetes.ts";
import { renderStack } from "../lib/rendered.ts";

/** What the engine tests run in Docker is what a cluster runs: the same container, by its image, command and places. */

const docker = renderStack({ machine: CUDA_MACHINE });
const podContainers = renderCluster().objects.flatMap((object) => podTemplates(object));

const dockerSchema = z.object({
  image: z.string(),
  command: z.array(z.string()).optional(),
  user: z.string().optional(),
  readOnly: z.boolean(),
  mounts: z.array(z.object({ target: z.string() })),
});
const podSchema = z.object({
  securityContext: z.object({ runAsUser: z.int(), runAsGroup: z.int() }),
  containers: z.tuple([
    z.object({
      image: z.string(),
      command: z.undefined().optional(),
      args: z.array(z.string()).optional(),
      securityContext: z.object({ readOnlyRootFilesystem: z.boolean() }),
      volumeMounts: z.array(z.object({ mountPath: z.string() })),
    }),
  ]),
});

/** The stage of an image, or its reference, as each target's resolver of the tests writes it. */
function imageOf(image: string): string {
  return /^<image (\w+)>$/.exec(image)?.[1] ?? /\/ml\/(\w+)@sha256:0+$/.exec(image)?.[1] ?? image;
}

/** In a cluster the backup is jobs that the clock starts, and experiments are jobs too. */
const STARTED_OTHERWISE: readonly WorkloadName[] = ["training-backup", "experiment-runner"];

test.each([...docker.keys()])("%s has the image and the command of its container in Docker", (name) => {
  const inDocker = dockerSchema.parse(docker.get(name)?.container);
  const pods = podContainers
    .filter(({ spec }) => spec.containers[0]?.name === name)
    .map(({ spec }) => podSchema.parse(spec));
  expect(pods.length).toBeGreaterThan(0);
  for (const { containers, securityContext } of pods) {
    const [container] = containers;
    expect(imageOf(container.image)).toBe(imageOf(inDocker.image));
    expect(container.securityContext.readOnlyRootFilesystem).toBe(inDocker.readOnly);
    if (inDocker.user !== undefined)
      expect(`${securityContext.runAsUser}:${securityContext.runAsGroup}`).toBe(inDocker.user);
    if (STARTED_OTHERWISE.includes(name)) continue;
    expect(container.args).toEqual(inDocker.command);
    const places = container.volumeMounts.map(({ mountPath }) => mountPath);
    for (const { target } of inDocker.mounts) {
      expect(
        places.some((place) => target === place || target.startsWith(`${place}/`)),
        target,
      ).toBe(true);
    }
  }
});
