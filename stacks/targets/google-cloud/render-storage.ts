import type * as gcp from "@pulumi/gcp";
import type { CloudNames } from "./names.ts";

/** Snapshots, and what else a target keeps where nothing of the stack needs to run. */
export function renderBucket(
  { project, region, bucket, labels }: CloudNames,
  retentionSeconds: number,
): gcp.storage.BucketArgs {
  return {
    project,
    name: bucket,
    location: region.toUpperCase(),
    labels,
    uniformBucketLevelAccess: true,
    publicAccessPrevention: "enforced",
    versioning: { enabled: true },
    softDeletePolicy: { retentionDurationSeconds: retentionSeconds },
    // An old version is what a deleted or overwritten object leaves: kept as long, then paid for no more.
    lifecycleRules: [
      {
        action: { type: "Delete" },
        condition: { daysSinceNoncurrentTime: Math.ceil(retentionSeconds / 86400), withState: "ARCHIVED" },
      },
    ],
    forceDestroy: false,
  };
}

export function renderRegistry({ project, region, prefix, labels }: CloudNames): gcp.artifactregistry.RepositoryArgs {
  return {
    project,
    location: region,
    repositoryId: prefix,
    format: "DOCKER",
    labels,
    description: "the image of the stack, and its build cache",
    cleanupPolicies: [
      { id: "keep-recent", action: "KEEP", mostRecentVersions: { keepCount: 10 } },
      { id: "delete-untagged", action: "DELETE", condition: { tagState: "UNTAGGED", olderThan: "2592000s" } },
    ],
  };
}

/** Name of a stage's image in the stack's own registry; the tag is only for the build cache, the plan names digests. */
export function imageName({ project, region, prefix }: CloudNames, stage: string): string {
  return `${region}-docker.pkg.dev/${project}/${prefix}/${stage}:latest`;
}
