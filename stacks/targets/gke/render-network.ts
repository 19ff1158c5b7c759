import type * as gcp from "@pulumi/gcp";
import type * as pulumi from "@pulumi/pulumi";
import type { GkeSettings } from "../../settings/gke.ts";
import { renderSubnet } from "../google-cloud/render-network.ts";
import type { ClusterNames } from "./names.ts";

type Id = pulumi.Input<string>;

/** Ports on which JobSet and Kueue answer the API server: webhooks, and Kueue's word on who waits. */
const CONTROLLER_PORTS = ["8082", "9443"];

/** Nodes, pods and services have ranges of their own. */
export function renderClusterSubnet(
  names: ClusterNames,
  network: Id,
  { subnet, podRange, serviceRange }: GkeSettings,
): gcp.compute.SubnetworkArgs {
  return {
    ...renderSubnet(names, network, subnet),
    secondaryIpRanges: [
      { rangeName: names.ranges.pods, ipCidrRange: podRange },
      { rangeName: names.ranges.services, ipCidrRange: serviceRange },
    ],
  };
}

/** The API server has its address in the subnet; GKE by itself lets it reach ports 443 and 10250 of nodes alone. */
export function renderControllerFirewall(
  { project, prefix }: ClusterNames,
  network: Id,
  { subnet }: GkeSettings,
  nodeAccount: Id,
): gcp.compute.FirewallArgs {
  return {
    project,
    name: `${prefix}-controllers`,
    network,
    direction: "INGRESS",
    sourceRanges: [subnet],
    allows: [{ protocol: "tcp", ports: CONTROLLER_PORTS }],
    targetServiceAccounts: [nodeAccount],
  };
}
