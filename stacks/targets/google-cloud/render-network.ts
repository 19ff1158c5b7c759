import type * as gcp from "@pulumi/gcp";
import type * as pulumi from "@pulumi/pulumi";
import type { CloudNames } from "./names.ts";

type Id = pulumi.Input<string>;

export function renderNetwork({ project, prefix }: CloudNames): gcp.compute.NetworkArgs {
  return { project, name: prefix, autoCreateSubnetworks: false, routingMode: "REGIONAL" };
}

/** Without external addresses; Google's own services are reached directly. */
export function renderSubnet(names: CloudNames, network: Id, range: string): gcp.compute.SubnetworkArgs {
  return {
    project: names.project,
    region: names.region,
    name: names.prefix,
    network,
    ipCidrRange: range,
    privateIpGoogleAccess: true,
  };
}

export function renderRouter({ project, region, prefix }: CloudNames, network: Id): gcp.compute.RouterArgs {
  return { project, region, name: prefix, network };
}

/** The way out: package indexes, the Hugging Face hub. Nothing comes in by it. */
export function renderNat({ project, region, prefix }: CloudNames, router: Id, subnet: Id): gcp.compute.RouterNatArgs {
  return {
    project,
    region,
    name: prefix,
    router,
    natIpAllocateOption: "AUTO_ONLY",
    sourceSubnetworkIpRangesToNat: "LIST_OF_SUBNETWORKS",
    subnetworks: [{ name: subnet, sourceIpRangesToNats: ["ALL_IP_RANGES"] }],
    logConfig: { enable: true, filter: "ERRORS_ONLY" },
  };
}
