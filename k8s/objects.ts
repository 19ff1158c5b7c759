import type { types } from "@pulumi/kubernetes";
import type { Input } from "@pulumi/pulumi";

/** The objects of a stack: what the API server gets, with late values where an image or a secret is not known yet. */
export type KubernetesObject = Builtin | Custom;

/** An object with the name that it has in the state, which no setting changes. */
export interface Rendered {
  readonly logicalName: string;
  readonly object: KubernetesObject;
}

export interface Metadata {
  readonly name: string;
  /** Undefined for what belongs to the whole cluster. */
  readonly namespace?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

interface Of<Version extends string, Kind extends string> {
  readonly apiVersion: Version;
  readonly kind: Kind;
  readonly metadata: Metadata;
}

export type PodSpec = types.input.core.v1.PodSpec;
export type PodTemplate = { readonly metadata: Omit<Metadata, "name">; readonly spec: PodSpec };
export type Container = types.input.core.v1.Container;
export type VolumeMount = types.input.core.v1.VolumeMount;
export type JobSpec = types.input.batch.v1.JobSpec;
export type PeerRule = types.input.networking.v1.NetworkPolicyPeer;
export type Toleration = types.input.core.v1.Toleration;

export type NamespaceObject = Of<"v1", "Namespace">;
export type ServiceAccountObject = Of<"v1", "ServiceAccount"> & { readonly automountServiceAccountToken: boolean };
export type SecretObject = Of<"v1", "Secret"> & {
  readonly type: "Opaque";
  readonly stringData: Readonly<Record<string, Input<string>>>;
};
export type ConfigMapObject = Of<"v1", "ConfigMap"> & {
  readonly data?: Readonly<Record<string, string>>;
  readonly binaryData?: Readonly<Record<string, string>>;
};
export type ClaimObject = Of<"v1", "PersistentVolumeClaim"> & {
  readonly spec: types.input.core.v1.PersistentVolumeClaimSpec;
};
export type StorageClassObject = Of<"storage.k8s.io/v1", "StorageClass"> & {
  readonly provisioner: string;
  readonly parameters: Readonly<Record<string, string>>;
  readonly reclaimPolicy: "Retain";
  readonly volumeBindingMode: "WaitForFirstConsumer";
  readonly allowVolumeExpansion: true;
};
export type VolumeObject = Of<"v1", "PersistentVolume"> & {
  readonly spec: types.input.core.v1.PersistentVolumeSpec;
};
export type ServiceObject = Of<"v1", "Service"> & { readonly spec: types.input.core.v1.ServiceSpec };
export type DeploymentObject = Of<"apps/v1", "Deployment"> & { readonly spec: types.input.apps.v1.DeploymentSpec };
export type DaemonSetObject = Of<"apps/v1", "DaemonSet"> & { readonly spec: types.input.apps.v1.DaemonSetSpec };
export type CronJobObject = Of<"batch/v1", "CronJob"> & { readonly spec: types.input.batch.v1.CronJobSpec };
export type NetworkPolicyObject = Of<"networking.k8s.io/v1", "NetworkPolicy"> & {
  readonly spec: types.input.networking.v1.NetworkPolicySpec;
};
export type DisruptionBudgetObject = Of<"policy/v1", "PodDisruptionBudget"> & {
  readonly spec: types.input.policy.v1.PodDisruptionBudgetSpec;
};
export type PriorityClassObject = Of<"scheduling.k8s.io/v1", "PriorityClass"> & {
  readonly value: number;
  readonly description: string;
  readonly globalDefault: false;
  readonly preemptionPolicy: "Never" | "PreemptLowerPriority";
};
export type RoleObject = Of<"rbac.authorization.k8s.io/v1", "Role"> & {
  readonly rules: types.input.rbac.v1.PolicyRule[];
};
export type RoleBindingObject = Of<"rbac.authorization.k8s.io/v1", "RoleBinding"> & {
  readonly roleRef: types.input.rbac.v1.RoleRef;
  readonly subjects: types.input.rbac.v1.Subject[];
};

export type Builtin =
  | NamespaceObject
  | ServiceAccountObject
  | SecretObject
  | ConfigMapObject
  | ClaimObject
  | StorageClassObject
  | VolumeObject
  | ServiceObject
  | DeploymentObject
  | DaemonSetObject
  | CronJobObject
  | NetworkPolicyObject
  | DisruptionBudgetObject
  | PriorityClassObject
  | RoleObject
  | RoleBindingObject;

export type Custom =
  | ResourceFlavorObject
  | ClusterQueueObject
  | LocalQueueObject
  | WorkloadPriorityClassObject
  | JobSetObject
  | TrainingRuntimeObject
  | TrainJobObject;

// What tunestack uses of Kueue's API v1beta2, of JobSet's v1alpha2 and of Kubeflow Trainer's v1alpha1, in their words:
// https://kueue.sigs.k8s.io/docs/reference/kueue.v1beta2, https://jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2,
// https://github.com/kubeflow/trainer/tree/v2.1.0/manifests/base/crds.

const KUEUE = "kueue.x-k8s.io/v1beta2";
type Kueue = typeof KUEUE;

export interface Taint {
  readonly key: string;
  readonly value: string;
  readonly effect: "NoSchedule";
}

export type ResourceFlavorObject = Of<Kueue, "ResourceFlavor"> & {
  readonly spec: {
    readonly nodeLabels?: Readonly<Record<string, string>>;
    readonly nodeTaints?: readonly Taint[];
    readonly tolerations?: readonly Toleration[];
  };
};

export type PreemptionPolicy = "Never" | "Any" | "LowerPriority" | "LowerOrNewerEqualPriority";

export type ClusterQueueObject = Of<Kueue, "ClusterQueue"> & {
  readonly spec: {
    readonly cohortName?: string;
    readonly namespaceSelector: { readonly matchLabels: Readonly<Record<string, string>> };
    readonly queueingStrategy: "BestEffortFIFO" | "StrictFIFO";
    readonly flavorFungibility: {
      readonly whenCanBorrow: "MayStopSearch" | "TryNextFlavor";
      readonly whenCanPreempt: "MayStopSearch" | "TryNextFlavor";
    };
    readonly preemption: {
      readonly withinClusterQueue: PreemptionPolicy;
      readonly reclaimWithinCohort: PreemptionPolicy;
      readonly borrowWithinCohort: { readonly policy: "Never" };
    };
    readonly resourceGroups: readonly {
      readonly coveredResources: readonly string[];
      readonly flavors: readonly {
        readonly name: string;
        readonly resources: readonly { readonly name: string; readonly nominalQuota: string }[];
      }[];
    }[];
  };
};

export type LocalQueueObject = Of<Kueue, "LocalQueue"> & { readonly spec: { readonly clusterQueue: string } };
export type WorkloadPriorityClassObject = Of<Kueue, "WorkloadPriorityClass"> & {
  readonly value: number;
  readonly description: string;
};

export interface JobSetSpec {
  readonly network: { readonly enableDNSHostnames: true; readonly subdomain: string };
  readonly successPolicy: { readonly operator: "All" };
  readonly failurePolicy: {
    readonly maxRestarts: number;
    readonly restartStrategy: "BlockingRecreate";
    readonly rules: readonly {
      readonly name: string;
      readonly action: "FailJobSet" | "RestartJobSet" | "RestartJobSetAndIgnoreMaxRestarts";
      readonly onJobFailureReasons: readonly string[];
    }[];
  };
  readonly replicatedJobs: readonly {
    readonly name: string;
    readonly replicas: number;
    readonly template: { readonly metadata: { readonly labels: Metadata["labels"] }; readonly spec: JobSpec };
  }[];
}

export type JobSetObject = Of<"jobset.x-k8s.io/v1alpha2", "JobSet"> & { readonly spec: JobSetSpec };

const TRAINER = "trainer.kubeflow.org/v1alpha1";
type Trainer = typeof TRAINER;

/** The JobSet that a TrainJob of its namespace is turned into. */
export type TrainingRuntimeObject = Of<Trainer, "TrainingRuntime"> & {
  readonly spec: {
    readonly mlPolicy: { readonly numNodes: number };
    readonly template: { readonly metadata: { readonly labels: Metadata["labels"] }; readonly spec: JobSetSpec };
  };
};

export type TrainJobObject = Of<Trainer, "TrainJob"> & {
  readonly spec: {
    readonly runtimeRef: {
      readonly apiGroup: "trainer.kubeflow.org";
      readonly kind: "TrainingRuntime";
      readonly name: string;
    };
  };
};
