import * as kubernetes from "@pulumi/kubernetes";
import type * as pulumi from "@pulumi/pulumi";

/** The provider of a stack's objects; how the cluster is reached is the target's to say. */
export function clusterProvider(
  name: string,
  reached: Pick<kubernetes.ProviderArgs, "kubeconfig" | "context" | "clusterIdentifier">,
  opts: pulumi.ResourceOptions,
): kubernetes.Provider {
  return new kubernetes.Provider(
    name,
    {
      ...reached,
      enableServerSideApply: true,
      // Otherwise each change of a file would make a second object, whose name is the first one's.
      enableConfigMapMutable: true,
      enableSecretMutable: true,
    },
    opts,
  );
}
