import type { Mount, VolumeName } from "../../plan/types.ts";

/** The bucket's object that the VM takes its plan from. */
export const PLAN_OBJECT = "plan/compose.yaml";

/** Where things are on the VM. */
export const VM_PATHS = {
  /** The data disk; it outlives the VM. */
  data: "/var/lib/tunestack",
  volumes: "/var/lib/tunestack/volumes",
  /** Data, model and template that came from the machine on which `pulumi up` ran. */
  inputs: "/var/lib/tunestack/inputs",
  /** In memory: gone with the VM. */
  secrets: "/run/tunestack/secrets",
} as const;

export function volumeFolder(volume: VolumeName): string {
  return `${VM_PATHS.volumes}/${volume}`;
}

/** The bucket's object for a file that a container sees at `path`. Example: `inputs/data/notes.jsonl`. */
export function inputObject(path: string): string {
  return `inputs${path}`;
}

/** Where on the VM a file or folder is that a container mounts. */
export function engineSource({ kind, path }: Exclude<Mount, { readonly kind: "volume" }>): string {
  switch (kind) {
    case "host":
      return `${VM_PATHS.inputs}${path}`;
    case "secret":
      return path.replace("/run/secrets", VM_PATHS.secrets);
  }
}
