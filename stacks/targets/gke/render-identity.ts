import type * as gcp from "@pulumi/gcp";
import type * as pulumi from "@pulumi/pulumi";
import type { WorkloadName } from "../../plan/types.ts";
import { accountId } from "../google-cloud/names.ts";
import { renderGrant } from "../google-cloud/render-identity.ts";
import type { CloudAccount } from "./accounts.ts";
import { type ClusterNames, clusterPath } from "./names.ts";

/** What a node needs to be one: to write logs and metrics. */
export const NODE_ROLE = "roles/container.defaultNodeServiceAccount";
/** What everybody in `gke.access` gets, in this cluster alone: a connection, and all that is in its namespaces. */
export const ACCESS_ROLE = "roles/container.developer";

export function renderNodeAccount(names: ClusterNames): gcp.serviceaccount.AccountArgs {
  return {
    project: names.project,
    accountId: accountId(names, "nodes"),
    displayName: `nodes of the stack ${names.prefix}`,
  };
}

export function renderWorkloadAccount(
  { project, prefix }: ClusterNames,
  { id, workload }: CloudAccount,
): gcp.serviceaccount.AccountArgs {
  return { project, accountId: id, displayName: `${workload} of the stack ${prefix}` };
}

/** The service account of a pod, and no other, acts as the account. */
export function renderWorkloadBinding(
  { workloadPool }: ClusterNames,
  account: pulumi.Input<string>,
  namespace: string,
  workload: WorkloadName,
): gcp.serviceaccount.IAMMemberArgs {
  return {
    serviceAccountId: account,
    role: "roles/iam.workloadIdentityUser",
    member: `serviceAccount:${workloadPool}[${namespace}/${workload}]`,
  };
}

export function renderAccess(names: ClusterNames, member: string): gcp.projects.IAMMemberArgs {
  return {
    ...renderGrant(names, ACCESS_ROLE, member),
    condition: {
      title: names.prefix,
      description: "in this cluster alone",
      expression: `resource.name == "${clusterPath(names)}"`,
    },
  };
}
