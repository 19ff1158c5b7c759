import * as gcp from "@pulumi/gcp";
import * as pulumi from "@pulumi/pulumi";
import type { GkeSettings } from "../../settings/gke.ts";
import { renderGrant } from "../google-cloud/render-identity.ts";
import { renderNat, renderNetwork, renderRouter } from "../google-cloud/render-network.ts";
import { type ClusterNames, contextName } from "./names.ts";
import { poolName } from "./pools.ts";
import { renderCluster } from "./render-cluster.ts";
import { NODE_ROLE, renderNodeAccount } from "./render-identity.ts";
import { renderKubeconfig, type ServerAddress } from "./render-kubeconfig.ts";
import { renderClusterSubnet, renderControllerFirewall } from "./render-network.ts";
import { type PoolReferences, renderCpuPool, renderRunPool } from "./render-pools.ts";

export interface GkeClusterArgs {
  readonly names: ClusterNames;
  readonly settings: GkeSettings;
}

/** A private cluster in a network of its own: nodes for services, and pools for runs that begin with none. */
export class GkeCluster extends pulumi.ComponentResource {
  /** Mail and member of the account that the nodes have. */
  readonly nodeAccount: gcp.serviceaccount.Account;
  /** Secret, although it holds no token: it tells where the API server is. */
  readonly kubeconfig: pulumi.Output<string>;
  /** The cluster with its pools: what has to be there before anything is put into it. */
  readonly ready: readonly pulumi.Resource[];

  constructor(name: string, args: GkeClusterArgs, opts?: pulumi.ComponentResourceOptions) {
    super("tunestack:gke:GkeCluster", name, {}, opts);
    this.nodeAccount = this.account(name, args);
    const { network, subnet } = this.network(name, args);
    const cluster = this.cluster(name, args, { network, subnet });
    this.ready = [cluster, ...this.pools(name, args, cluster)];
    this.kubeconfig = pulumi.secret(
      addressOf(cluster, args.settings).apply((address) => renderKubeconfig(contextName(args.names), address)),
    );
    this.registerOutputs({ kubeconfig: this.kubeconfig });
  }

  private account(name: string, { names }: GkeClusterArgs): gcp.serviceaccount.Account {
    const parent = { parent: this };
    const account = new gcp.serviceaccount.Account(`${name}-nodes`, renderNodeAccount(names), parent);
    new gcp.projects.IAMMember(`${name}-nodes-grant`, renderGrant(names, NODE_ROLE, account.member), parent);
    return account;
  }

  private network(name: string, { names, settings }: GkeClusterArgs): Network {
    const parent = { parent: this };
    const network = new gcp.compute.Network(`${name}-network`, renderNetwork(names), parent);
    const subnet = new gcp.compute.Subnetwork(
      `${name}-subnet`,
      renderClusterSubnet(names, network.id, settings),
      parent,
    );
    const router = new gcp.compute.Router(`${name}-router`, renderRouter(names, network.id), parent);
    new gcp.compute.RouterNat(`${name}-nat`, renderNat(names, router.name, subnet.id), parent);
    new gcp.compute.Firewall(
      `${name}-controllers`,
      renderControllerFirewall(names, network.id, settings, this.nodeAccount.email),
      parent,
    );
    return { network, subnet };
  }

  private cluster(
    name: string,
    { names, settings }: GkeClusterArgs,
    { network, subnet }: Network,
  ): gcp.container.Cluster {
    return new gcp.container.Cluster(
      name,
      renderCluster(names, settings, {
        network: network.id,
        subnet: subnet.id,
        nodeAccount: this.nodeAccount.email,
      }),
      {
        parent: this,
        // That of the pool which is gone; and the count with which it was made says nothing any more.
        ignoreChanges: ["nodeConfig", "initialNodeCount"],
      },
    );
  }

  private pools(
    name: string,
    { names, settings }: GkeClusterArgs,
    cluster: gcp.container.Cluster,
  ): readonly pulumi.Resource[] {
    const references: PoolReferences = { cluster: cluster.id, nodeAccount: this.nodeAccount.email };
    // A count is for the first moment; from then on the autoscaler has its own.
    const opts = { parent: this, ignoreChanges: ["initialNodeCount"] };
    return [
      new gcp.container.NodePool(`${name}-services`, renderCpuPool(names, settings, references), opts),
      ...settings.queue.pools.map(
        (pool) =>
          new gcp.container.NodePool(
            `${name}-pool-${poolName(pool)}`,
            renderRunPool(names, settings, pool, references),
            opts,
          ),
      ),
    ];
  }
}

interface Network {
  readonly network: gcp.compute.Network;
  readonly subnet: gcp.compute.Subnetwork;
}

/** Where the API server is, by the way that the settings choose. */
function addressOf(cluster: gcp.container.Cluster, { endpoint }: GkeSettings): pulumi.Output<ServerAddress> {
  switch (endpoint) {
    case "dns":
      return cluster.controlPlaneEndpointsConfig.apply(({ dnsEndpointConfig }) => ({
        host: there(dnsEndpointConfig?.endpoint, "name"),
        authority: undefined,
      }));
    case "private":
      return pulumi
        .all([cluster.privateClusterConfig, cluster.masterAuth])
        .apply(([{ privateEndpoint }, { clusterCaCertificate }]) => ({
          host: there(privateEndpoint, "private address"),
          authority: there(clusterCaCertificate, "certificate"),
        }));
  }
}

/** Where the API server will be, in a preview by what stands in for Google's plugin and knows no cluster. */
const NOT_YET = "known-after-the-update.invalid";

function there(value: string | undefined, what: string): string {
  if (value !== undefined && value !== "") return value;
  if (pulumi.runtime.isDryRun()) return NOT_YET;
  throw new Error(`the cluster has no ${what}`);
}
