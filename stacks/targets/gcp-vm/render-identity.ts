import type * as gcp from "@pulumi/gcp";
import type { CloudNames } from "../google-cloud/names.ts";

/** What the VM does to itself: attach the data disk of its zone, and send itself home when it is idle. */
export const VM_PERMISSIONS = [
  "compute.disks.get",
  "compute.disks.use",
  "compute.instanceGroupManagers.get",
  "compute.instanceGroupManagers.update",
  "compute.instances.attachDisk",
  "compute.instances.get",
] as const;

/** What everybody in `gcp.access` gets: the tunnel, a login with the right to use the engine, a look at the VM. */
export const ACCESS_ROLES = {
  iap: "roles/iap.tunnelResourceAccessor",
  login: "roles/compute.osAdminLogin",
  viewer: "roles/compute.viewer",
} as const;

export function renderServiceAccount({ project, prefix }: CloudNames): gcp.serviceaccount.AccountArgs {
  return { project, accountId: prefix, displayName: `GPU VM of the stack ${prefix}` };
}

export function renderRole({ project, prefix, role }: CloudNames): gcp.projects.IAMCustomRoleArgs {
  return { project, roleId: role, title: `${prefix} VM`, permissions: [...VM_PERMISSIONS] };
}
