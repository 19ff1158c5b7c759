import type * as gcp from "@pulumi/gcp";
import type * as pulumi from "@pulumi/pulumi";
import type { GkeSettings } from "../../settings/gke.ts";
import type { ClusterNames } from "./names.ts";

export interface ClusterReferences {
  readonly network: pulumi.Input<string>;
  readonly subnet: pulumi.Input<string>;
  /** Mail of the nodes' account. */
  readonly nodeAccount: pulumi.Input<string>;
}

/** The cluster without its nodes: no public address, policies that the data plane enforces, accounts for pods. */
export function renderCluster(
  names: ClusterNames,
  settings: GkeSettings,
  { network, subnet, nodeAccount }: ClusterReferences,
): gcp.container.ClusterArgs {
  return {
    project: names.project,
    location: names.location,
    name: names.prefix,
    resourceLabels: names.labels,
    network,
    subnetwork: subnet,
    nodeLocations: nodeLocations(settings),
    networkingMode: "VPC_NATIVE",
    ipAllocationPolicy: {
      clusterSecondaryRangeName: names.ranges.pods,
      servicesSecondaryRangeName: names.ranges.services,
    },
    datapathProvider: "ADVANCED_DATAPATH",
    ...renderEndpoints(settings),
    releaseChannel: { channel: settings.releaseChannel.toUpperCase() },
    maintenancePolicy: { dailyMaintenanceWindow: { startTime: settings.maintenance } },
    deletionProtection: settings.deletionProtection,
    // Each kind of node is a pool of its own; the one that comes with a cluster is taken away at once.
    removeDefaultNodePool: true,
    initialNodeCount: 1,
    nodeConfig: {
      serviceAccount: nodeAccount,
      shieldedInstanceConfig: { enableSecureBoot: true, enableIntegrityMonitoring: true },
    },
    enableShieldedNodes: true,
    workloadIdentityConfig: { workloadPool: names.workloadPool },
    masterAuth: { clientCertificateConfig: { issueClientCertificate: false } },
    rbacBindingConfig: {
      enableInsecureBindingSystemUnauthenticated: false,
      enableInsecureBindingSystemAuthenticated: false,
    },
    securityPostureConfig: { mode: "BASIC" },
    addonsConfig: {
      gcePersistentDiskCsiDriverConfig: { enabled: true },
      gcpFilestoreCsiDriverConfig: { enabled: true },
      gcsFuseCsiDriverConfig: { enabled: settings.storage.inBuckets.length > 0 },
      dnsCacheConfig: { enabled: true },
      // Nothing is reached from the internet, so nothing balances its load.
      httpLoadBalancing: { disabled: true },
    },
    // A node with a GPU goes soon after its last run.
    clusterAutoscaling: { autoscalingProfile: "OPTIMIZE_UTILIZATION" },
    loggingConfig: { enableComponents: ["SYSTEM_COMPONENTS", "WORKLOADS"] },
    // DCGM tells of the GPUs, and managed Prometheus collects it.
    monitoringConfig: { enableComponents: ["SYSTEM_COMPONENTS", "DCGM"], managedPrometheus: { enabled: true } },
    costManagementConfig: { enabled: true },
  };
}

/** A zonal cluster has its own zone without being told. */
function nodeLocations({ location, zones }: GkeSettings): string[] {
  switch (location) {
    case "regional":
      return [...zones];
    case "zonal":
      return zones.slice(1);
  }
}

type Endpoints = Pick<
  gcp.container.ClusterArgs,
  "privateClusterConfig" | "controlPlaneEndpointsConfig" | "masterAuthorizedNetworksConfig"
>;

function renderEndpoints({ endpoint }: GkeSettings): Endpoints {
  switch (endpoint) {
    // Google's front end asks IAM before anything comes to the API server, which has no address of its own outside.
    case "dns":
      return {
        privateClusterConfig: { enablePrivateNodes: true },
        controlPlaneEndpointsConfig: {
          dnsEndpointConfig: { allowExternalTraffic: true },
          ipEndpointsConfig: { enabled: false },
        },
      };
    case "private":
      return {
        privateClusterConfig: { enablePrivateNodes: true, enablePrivateEndpoint: true },
        controlPlaneEndpointsConfig: { dnsEndpointConfig: { allowExternalTraffic: false } },
        // None but the cluster's own subnet.
        masterAuthorizedNetworksConfig: { gcpPublicCidrsAccessEnabled: false },
      };
  }
}
