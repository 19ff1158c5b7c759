import type * as gcp from "@pulumi/gcp";
import type * as pulumi from "@pulumi/pulumi";
import type { CloudNames } from "../google-cloud/names.ts";

/** The addresses from which Identity-Aware Proxy forwards: https://cloud.google.com/iap/docs/using-tcp-forwarding. */
export const IAP_RANGE = "35.235.240.0/20";

type Id = pulumi.Input<string>;

/** SSH, through Identity-Aware Proxy alone; every other port is reached through SSH. */
export function renderIapFirewall(
  { project, prefix }: CloudNames,
  network: Id,
  serviceAccount: Id,
): gcp.compute.FirewallArgs {
  return {
    project,
    name: `${prefix}-ssh-through-iap`,
    network,
    direction: "INGRESS",
    sourceRanges: [IAP_RANGE],
    allows: [{ protocol: "tcp", ports: ["22"] }],
    targetServiceAccounts: [serviceAccount],
  };
}
