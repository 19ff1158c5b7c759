import type * as gcp from "@pulumi/gcp";
import type * as pulumi from "@pulumi/pulumi";
import type { CloudNames } from "./names.ts";

export function renderGrant(
  { project }: CloudNames,
  role: pulumi.Input<string>,
  member: pulumi.Input<string>,
): gcp.projects.IAMMemberArgs {
  return { project, role, member };
}

/** The right to pull the stack's images. */
export function renderRegistryReader(
  { project, region }: CloudNames,
  repository: pulumi.Input<string>,
  member: pulumi.Input<string>,
): gcp.artifactregistry.RepositoryIamMemberArgs {
  return { project, location: region, repository, role: "roles/artifactregistry.reader", member };
}
