import * as gcp from "@pulumi/gcp";
import * as kubernetes from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import type { ClusterLayout, Resolver } from "../../../k8s/layout.ts";
import { clusterProvider } from "../../../k8s/provider.ts";
import { ClusterStack } from "../../../k8s/stack.ts";
import { TunestackImage } from "../../image/image.ts";
import type { Plan } from "../../plan/types.ts";
import { clusterServices, type GkeSettings } from "../../settings/gke.ts";
import { renderRegistryReader } from "../google-cloud/render-identity.ts";
import { renderBudget, renderService } from "../google-cloud/render-project.ts";
import { imageName, renderBucket, renderRegistry } from "../google-cloud/render-storage.ts";
import type { CloudAccount } from "./accounts.ts";
import { GkeCluster } from "./cluster.ts";
import { type ClusterNames, clusterPath } from "./names.ts";
import { renderVolumeBucket } from "./render-buckets.ts";
import { CONTROLLERS, renderController } from "./render-controllers.ts";
import { renderAccess, renderWorkloadAccount, renderWorkloadBinding } from "./render-identity.ts";

export interface GkeStackArgs {
  readonly names: ClusterNames;
  readonly settings: GkeSettings;
  readonly plan: Plan;
  readonly layout: ClusterLayout;
  /** Parts that are somebody in Google Cloud. */
  readonly accounts: readonly CloudAccount[];
  /** Absolute folder of the project. */
  readonly projectDir: string;
  readonly secret: Resolver["secret"];
  readonly files: Resolver["files"];
}

/** The stack in a cluster of its own in Google Cloud, which is made, given JobSet and Kueue, and handed to `k8s/`. */
export class GkeStack extends pulumi.ComponentResource {
  /** Reference of each image that was pushed, by its stage. */
  readonly images: TunestackImage["references"];
  /** The services of Google's that the rest needs. */
  readonly #enabled: readonly gcp.projects.Service[];

  constructor(name: string, args: GkeStackArgs, opts?: pulumi.ComponentResourceOptions) {
    super("tunestack:gke:GkeStack", name, {}, opts);
    const { names, settings, plan, layout, secret, files } = args;
    this.#enabled = this.enable(name, args);
    const buckets = this.buckets(name, args);
    const cluster = new GkeCluster(`${name}-gke`, { names, settings }, this.child());
    const rights = this.accounts(name, args, cluster, buckets);
    const image = this.image(name, args, cluster);
    this.access(name, args, cluster);
    this.budget(name, args);
    const reached = { kubeconfig: cluster.kubeconfig, clusterIdentifier: clusterPath(names) };
    const provider = clusterProvider(`${name}-kubernetes`, reached, { parent: this });
    const controllers = this.controllers(name, args, cluster, provider);
    const resolve: Resolver = { image: (reference) => image.of(reference), secret, files };
    const after = [...controllers, ...rights];
    new ClusterStack(`${name}-cluster`, { plan, layout, resolve, after }, { parent: this, provider });
    this.images = image.references;
    this.registerOutputs({ images: this.images });
  }

  private enable(name: string, { names, settings }: GkeStackArgs): readonly gcp.projects.Service[] {
    return clusterServices(settings).map(
      (service) =>
        new gcp.projects.Service(`${name}-api-${service}`, renderService(names, service), {
          parent: this,
          retainOnDelete: true,
        }),
    );
  }

  private child(more: pulumi.ResourceOptions = {}): pulumi.ResourceOptions {
    return { parent: this, dependsOn: [...this.#enabled], ...more };
  }

  /** Kept when the stack is destroyed: what they hold is what people come back for. */
  private buckets(name: string, { names, settings }: GkeStackArgs): ReadonlyMap<string, gcp.storage.Bucket> {
    const bucket = (suffix: string, args: gcp.storage.BucketArgs) =>
      new gcp.storage.Bucket(`${name}-${suffix}`, args, { ...this.child(), retainOnDelete: true });
    const volumes = settings.storage.inBuckets.map((volume) => {
      const args = renderVolumeBucket(names, settings, volume);
      return [String(args.name), bucket(`bucket-${volume.replaceAll("_", "-")}`, args)] as const;
    });
    return new Map([[names.bucket, bucket("bucket", renderBucket(names, settings.snapshotRetention))], ...volumes]);
  }

  /** An account for each part that uses buckets, with rights on those alone, for that part's pods alone. */
  private accounts(
    name: string,
    { names, layout, accounts }: GkeStackArgs,
    cluster: GkeCluster,
    buckets: ReadonlyMap<string, gcp.storage.Bucket>,
  ): readonly pulumi.Resource[] {
    return accounts.flatMap((account) => {
      const { workload, grants } = account;
      const made = new gcp.serviceaccount.Account(
        `${name}-${workload}-account`,
        renderWorkloadAccount(names, account),
        this.child(),
      );
      const binding = new gcp.serviceaccount.IAMMember(
        `${name}-${workload}-identity`,
        renderWorkloadBinding(names, made.name, layout.namespace, workload),
        // The pool of the pods' accounts comes with the project's first cluster.
        this.child({ dependsOn: [...cluster.ready] }),
      );
      const rights = grants.map(({ bucket, role }) => {
        const of = buckets.get(bucket);
        if (of === undefined) throw new Error(`${workload} has a right on a bucket that is not made: ${bucket}`);
        return new gcp.storage.BucketIAMMember(
          `${name}-${workload}-on-${bucket.slice(names.bucket.length + 1) || "snapshots"}`,
          { bucket: of.name, role, member: made.member },
          this.child(),
        );
      });
      return [binding, ...rights];
    });
  }

  private image(name: string, { names, plan, projectDir }: GkeStackArgs, { nodeAccount }: GkeCluster): TunestackImage {
    const registry = new gcp.artifactregistry.Repository(`${name}-registry`, renderRegistry(names), this.child());
    new gcp.artifactregistry.RepositoryIamMember(
      `${name}-registry-grant`,
      renderRegistryReader(names, registry.name, nodeAccount.member),
      this.child(),
    );
    return new TunestackImage(
      `${name}-image`,
      { plan: plan.image, projectDir, tagOf: (stage) => imageName(names, stage), push: true },
      { parent: this, dependsOn: registry },
    );
  }

  private access(name: string, { names, settings }: GkeStackArgs, { ready }: GkeCluster): void {
    for (const member of settings.access) {
      const suffix = member.replaceAll(/[^a-zA-Z0-9]+/g, "-");
      new gcp.projects.IAMMember(
        `${name}-access-${suffix}`,
        renderAccess(names, member),
        this.child({ dependsOn: [...ready] }),
      );
    }
  }

  private budget(name: string, { names, settings }: GkeStackArgs): void {
    if (settings.budget === undefined) return;
    new gcp.billing.Budget(`${name}-budget`, renderBudget(names, settings.budget), {
      ...this.child(),
      // Google gives the project's number back for its id.
      ignoreChanges: ["budgetFilter.projects"],
    });
  }

  /** One after the other, and before anything that they have to look at. */
  private controllers(
    name: string,
    { settings }: GkeStackArgs,
    { ready }: GkeCluster,
    provider: kubernetes.Provider,
  ): readonly pulumi.Resource[] {
    const installed: pulumi.Resource[] = [];
    for (const controller of CONTROLLERS) {
      const release = new kubernetes.helm.v3.Release(`${name}-${controller}`, renderController(controller, settings), {
        parent: this,
        provider,
        dependsOn: [...ready, ...installed],
      });
      installed.push(release);
    }
    return installed;
  }
}
