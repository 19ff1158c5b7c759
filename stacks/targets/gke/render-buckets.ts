import type * as gcp from "@pulumi/gcp";
import type { GkeSettings } from "../../settings/gke.ts";
import { type BucketVolume, type ClusterNames, volumeBucket } from "./names.ts";

/** A bucket that pods mount as a volume: with real folders, which can be renamed, and without versions, which those exclude. */
export function renderVolumeBucket(
  names: ClusterNames,
  { snapshotRetention }: GkeSettings,
  volume: BucketVolume,
): gcp.storage.BucketArgs {
  return {
    project: names.project,
    name: volumeBucket(names, volume),
    location: names.region.toUpperCase(),
    labels: names.labels,
    uniformBucketLevelAccess: true,
    publicAccessPrevention: "enforced",
    hierarchicalNamespace: { enabled: true },
    softDeletePolicy: { retentionDurationSeconds: snapshotRetention },
    forceDestroy: false,
  };
}
