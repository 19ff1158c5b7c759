import * as kubernetes from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import type { Plan } from "../stacks/plan/types.ts";
import type { ClusterLayout, Resolver } from "./layout.ts";
import type { KubernetesObject } from "./objects.ts";
import { renderStack } from "./render.ts";

export interface ClusterStackArgs {
  readonly plan: Plan;
  readonly layout: ClusterLayout;
  readonly resolve: Resolver;
  /** What has to be there before the first object, and to stay until the last one is gone: controllers with finalizers. */
  readonly after?: readonly pulumi.Resource[];
}

/** A plan in a cluster: what the renderers return, each object as a resource. */
export class ClusterStack extends pulumi.ComponentResource {
  constructor(
    name: string,
    { plan, layout, resolve, after = [] }: ClusterStackArgs,
    opts?: pulumi.ComponentResourceOptions,
  ) {
    super("tunestack:k8s:ClusterStack", name, {}, opts);
    let namespace: pulumi.Resource | undefined;
    for (const { logicalName, object } of renderStack(plan, layout, resolve)) {
      const inside = object.metadata.namespace !== undefined && namespace !== undefined ? [namespace] : [];
      const resource = register(`${name}-${logicalName}`, object, {
        parent: this,
        dependsOn: [...after, ...inside],
        ...lifetime(object),
      });
      if (object.kind === "Namespace") namespace = resource;
    }
    this.registerOutputs({});
  }
}

/** What happens to an object when its text changes, and when the stack goes. */
function lifetime({ kind }: KubernetesObject): pulumi.CustomResourceOptions {
  switch (kind) {
    // Losing a volume is always somebody's explicit choice, and a namespace takes its volumes along.
    case "Namespace":
    case "PersistentVolume":
    case "PersistentVolumeClaim":
      return { retainOnDelete: true };
    // Nothing in it can change, and its volumes keep what it was made with.
    case "StorageClass":
      return { replaceOnChanges: ["parameters", "provisioner"], deleteBeforeReplace: true };
    // What a run was asked to do cannot change in the cluster, and two of a name cannot be there at once.
    case "JobSet":
    case "TrainJob":
      return { replaceOnChanges: ["spec"], deleteBeforeReplace: true };
    default:
      return {};
  }
}

function register(name: string, object: KubernetesObject, opts: pulumi.CustomResourceOptions): pulumi.CustomResource {
  switch (object.kind) {
    case "Namespace":
      return new kubernetes.core.v1.Namespace(name, object, opts);
    case "ServiceAccount":
      return new kubernetes.core.v1.ServiceAccount(name, object, opts);
    case "Secret":
      return new kubernetes.core.v1.Secret(name, object, opts);
    case "ConfigMap":
      return new kubernetes.core.v1.ConfigMap(name, object, opts);
    case "PersistentVolumeClaim":
      return new kubernetes.core.v1.PersistentVolumeClaim(name, object, opts);
    case "PersistentVolume":
      return new kubernetes.core.v1.PersistentVolume(name, object, opts);
    case "StorageClass":
      return new kubernetes.storage.v1.StorageClass(name, object, opts);
    case "Service":
      return new kubernetes.core.v1.Service(name, object, opts);
    case "Deployment":
      return new kubernetes.apps.v1.Deployment(name, object, opts);
    case "DaemonSet":
      return new kubernetes.apps.v1.DaemonSet(name, object, opts);
    case "CronJob":
      return new kubernetes.batch.v1.CronJob(name, object, opts);
    case "NetworkPolicy":
      return new kubernetes.networking.v1.NetworkPolicy(name, object, opts);
    case "PodDisruptionBudget":
      return new kubernetes.policy.v1.PodDisruptionBudget(name, object, opts);
    case "PriorityClass":
      return new kubernetes.scheduling.v1.PriorityClass(name, object, opts);
    case "Role":
      return new kubernetes.rbac.v1.Role(name, object, opts);
    case "RoleBinding":
      return new kubernetes.rbac.v1.RoleBinding(name, object, opts);
    case "ResourceFlavor":
    case "ClusterQueue":
    case "LocalQueue":
    case "WorkloadPriorityClass":
    case "JobSet":
    case "TrainingRuntime":
    case "TrainJob":
      return new kubernetes.apiextensions.CustomResource(name, object, opts);
  }
}
