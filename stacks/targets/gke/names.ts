import type { GkeSettings } from "../../settings/gke.ts";
import type { InputsOf } from "../../settings/load.ts";
import { type CloudNames, cloudNames } from "../google-cloud/names.ts";

/** What the resources of a cluster's stack are called, and where they are. */
export interface ClusterNames extends CloudNames {
  /** Region of a regional cluster, zone of a zonal one. */
  readonly location: string;
  /** Addresses of pods and of services within the subnet. */
  readonly ranges: { readonly pods: string; readonly services: string };
  /** By which Google knows the accounts of pods. */
  readonly workloadPool: string;
}

export function clusterNames({ stack, settings }: InputsOf<"gke">): ClusterNames {
  const names = cloudNames(stack, settings.gke);
  return {
    ...names,
    location: locationOf(settings.gke),
    ranges: { pods: "pods", services: "services" },
    workloadPool: `${names.project}.svc.id.goog`,
  };
}

function locationOf({ location, region, zones }: GkeSettings): string {
  switch (location) {
    case "regional":
      return region;
    case "zonal":
      return zones[0] ?? region;
  }
}

/** The cluster as Google's own tools write it. Example: `projects/team-ml/locations/us-central1/clusters/tunestack-prod`. */
export function clusterPath({ project, location, prefix }: ClusterNames): string {
  return `projects/${project}/locations/${location}/clusters/${prefix}`;
}

/** The context that `gcloud container clusters get-credentials` writes. */
export function contextName({ project, location, prefix }: ClusterNames): string {
  return `gke_${project}_${location}_${prefix}`;
}

const BUCKETS = {
  training_models_cache: "cache",
  training_models_gguf: "gguf",
  training_backup: "backup",
} as const;

export type BucketVolume = keyof typeof BUCKETS;

/** The bucket that is a volume. Example: `team-ml-tunestack-prod-gguf`. */
export function volumeBucket({ bucket }: Pick<CloudNames, "bucket">, volume: BucketVolume): string {
  return `${bucket}-${BUCKETS[volume]}`;
}
