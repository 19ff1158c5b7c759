import type * as gcp from "@pulumi/gcp";
import type * as pulumi from "@pulumi/pulumi";
import { type CloudNames, dataDiskName } from "./names.ts";

const GIB = 2 ** 30;

/** Snapshots, the plan that the VM runs, its status, and data from this machine. */
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

/** The disk on which the volumes lie while the VM is in that zone. */
export function renderDataDisk(names: CloudNames, zone: string, bytes: number): gcp.compute.DiskArgs {
  return {
    project: names.project,
    zone,
    name: dataDiskName(names, zone),
    type: "pd-balanced",
    size: Math.ceil(bytes / GIB),
    labels: names.labels,
  };
}

export function renderSecret({ project, prefix, labels }: CloudNames, secret: string): gcp.secretmanager.SecretArgs {
  return { project, secretId: `${prefix}-${secret}`, labels, replication: { auto: {} } };
}

export function renderSecretReader(
  { project }: CloudNames,
  secretId: pulumi.Input<string>,
  member: pulumi.Input<string>,
): gcp.secretmanager.SecretIamMemberArgs {
  return { project, secretId, role: "roles/secretmanager.secretAccessor", member };
}

/** Name of a stage's image in the stack's own registry; the tag is only for the build cache, the plan names digests. */
export function imageName({ project, region, prefix }: CloudNames, stage: string): string {
  return `${region}-docker.pkg.dev/${project}/${prefix}/${stage}:latest`;
}
