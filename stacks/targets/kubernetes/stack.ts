import type * as kubernetes from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import type { ClusterLayout, Resolver } from "../../../k8s/layout.ts";
import { clusterProvider } from "../../../k8s/provider.ts";
import { ClusterStack } from "../../../k8s/stack.ts";
import { TunestackImage } from "../../image/image.ts";
import type { Plan } from "../../plan/types.ts";

export interface KubernetesStackArgs {
  readonly plan: Plan;
  readonly layout: ClusterLayout;
  /** Absolute folder of the project. */
  readonly projectDir: string;
  readonly cluster: { readonly kubeconfig: string | undefined; readonly context: string | undefined };
  /** Registry and path of the images. */
  readonly registry: string;
  readonly secret: Resolver["secret"];
  readonly files: Resolver["files"];
}

/** The stack in a cluster that a kubeconfig leads to. */
export class KubernetesStack extends pulumi.ComponentResource {
  /** Reference of each image that was pushed, by its stage. */
  readonly images: TunestackImage["references"];

  constructor(name: string, args: KubernetesStackArgs, opts?: pulumi.ComponentResourceOptions) {
    super("tunestack:kubernetes:KubernetesStack", name, {}, opts);
    const { plan, layout, projectDir, registry, secret, files } = args;
    const provider = this.provider(name, args);
    const image = new TunestackImage(
      `${name}-image`,
      { plan: plan.image, projectDir, tagOf: (stage) => `${registry}/${stage}:${plan.stack}`, push: true },
      { parent: this },
    );
    const resolve: Resolver = { image: (reference) => image.of(reference), secret, files };
    new ClusterStack(`${name}-cluster`, { plan, layout, resolve }, { parent: this, provider });
    this.images = image.references;
    this.registerOutputs({ images: this.images });
  }

  /** The kubeconfig is named and not read, so that nothing of it comes into the state. */
  private provider(name: string, { cluster }: KubernetesStackArgs): kubernetes.Provider {
    const { kubeconfig, context } = cluster;
    const reached = {
      ...(kubeconfig === undefined ? {} : { kubeconfig }),
      ...(context === undefined ? {} : { context }),
    };
    return clusterProvider(`${name}-kubernetes`, reached, { parent: this });
  }
}
