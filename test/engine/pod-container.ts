import { mkdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { z } from "zod";
import type { PodTemplate } from "../lib/kubernetes.ts";

/** What tests read of a pod; a volume of a kind that is not here fails. */
const podSchema = z.object({
  securityContext: z.object({ runAsUser: z.int(), runAsGroup: z.int() }),
  terminationGracePeriodSeconds: z.int(),
  containers: z.tuple([
    z.object({
      image: z.string(),
      args: z.array(z.string()).default([]),
      env: z.array(z.object({ name: z.string(), value: z.string() })),
      securityContext: z.object({ readOnlyRootFilesystem: z.boolean() }),
      volumeMounts: z.array(
        z.strictObject({
          name: z.string(),
          mountPath: z.string(),
          subPath: z.string().optional(),
          readOnly: z.boolean().default(false),
        }),
      ),
    }),
  ]),
  volumes: z.array(
    z.union([
      z.strictObject({ name: z.string(), persistentVolumeClaim: z.object({ claimName: z.string() }) }),
      z.strictObject({ name: z.string(), emptyDir: z.object({ medium: z.literal("Memory"), sizeLimit: z.string() }) }),
      z.strictObject({ name: z.string(), configMap: z.object({ items: z.array(z.object({ path: z.string() })) }) }),
    ]),
  ),
});
type PodSpec = z.output<typeof podSchema>;
type VolumeMount = PodSpec["containers"][0]["volumeMounts"][number];

export interface PodPlace {
  /** Before the name of each volume. */
  readonly prefix: string;
  /** Folder of this machine for what a config map holds. */
  readonly folder: string;
  /** Content of the one file of each config map. */
  readonly input: string;
}

export interface PodContainer {
  /** Arguments of `docker run` after the container's name and network. */
  readonly args: readonly string[];
  readonly graceSeconds: number;
}

/**
 * A pod's one container as Docker runs it: same image, command, environment, user and places. Without an init process,
 * since a pod has none. What a kubelet alone can do is left out: probes, limits, node selection.
 */
export function podContainer({ spec }: PodTemplate, place: PodPlace): PodContainer {
  const pod = podSchema.parse(spec);
  const [container] = pod.containers;
  const { runAsUser, runAsGroup } = pod.securityContext;
  return {
    args: [
      ...["--user", `${runAsUser}:${runAsGroup}`, "--cap-drop", "ALL", "--security-opt", "no-new-privileges"],
      ...(container.securityContext.readOnlyRootFilesystem ? ["--read-only"] : []),
      ...container.env.flatMap(({ name, value }) => ["--env", `${name}=${value}`]),
      ...container.volumeMounts.flatMap((mount) => ["--mount", mountOption(mount, pod, place)]),
      container.image,
      ...container.args,
    ],
    graceSeconds: pod.terminationGracePeriodSeconds,
  };
}

function mountOption({ name, mountPath, subPath, readOnly }: VolumeMount, pod: PodSpec, place: PodPlace): string {
  const volume = pod.volumes.find((one) => one.name === name);
  if (volume === undefined) throw new Error(`the pod has no volume ${name}`);
  const target = `target=${mountPath}${readOnly ? ",readonly" : ""}`;
  if ("persistentVolumeClaim" in volume)
    return `type=volume,source=${place.prefix}${volume.persistentVolumeClaim.claimName},${target}`;
  if ("emptyDir" in volume) return `type=tmpfs,${target},tmpfs-mode=1777`;
  const folder = join(place.folder, name);
  mkdirSync(folder, { recursive: true });
  const file = join(folder, subPath ?? basename(mountPath));
  writeFileSync(file, place.input);
  return `type=bind,source=${file},${target}`;
}
