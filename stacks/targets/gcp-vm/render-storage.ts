import type * as gcp from "@pulumi/gcp";
import type * as pulumi from "@pulumi/pulumi";
import type { CloudNames } from "../google-cloud/names.ts";

const GIB = 2 ** 30;

/** The data disk of a zone. */
export function dataDiskName({ prefix }: CloudNames, zone: string): string {
  return `${prefix}-data-${zone}`;
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
