import type { Input } from "@pulumi/pulumi";
import type { ImageReference, VolumeName, WorkloadName } from "../stacks/plan/types.ts";
import type { ClusterSettings } from "../stacks/settings/cluster.ts";
import type { Taint, Toleration } from "./objects.ts";

/** The cluster as a stack uses it: what a plan is rendered for, whatever target made the cluster. */
export interface ClusterLayout {
  readonly stack: string;
  readonly namespace: string;
  readonly runAs: ClusterSettings["runAs"];
  readonly run: RunLayout;
  /** Kinds of nodes that runs may go to, the preferred first. */
  readonly pools: readonly NodePool[];
  /** Cohort of queues that lend each other quota. */
  readonly cohort: string | undefined;
  readonly preemption: boolean;
  readonly claims: Readonly<Record<VolumeName, ClaimLayout>>;
  /** Storage classes that the stack brings along. */
  readonly storageClasses: readonly StorageClassLayout[];
  /** Who a part is in the cloud, as annotations of its service account; a part that is not here is nobody there. */
  readonly identities: Readonly<Partial<Record<WorkloadName, Readonly<Record<string, string>>>>>;
  /** Secret with which nodes pull the images. */
  readonly pullSecret: string | undefined;
  /** Runtime class by which a container sees the GPUs of its node without asking for one. */
  readonly runtimeClass: string | undefined;
  /** Namespace from which metrics are read. */
  readonly metricsFrom: string | undefined;
}

export interface RunLayout {
  readonly nodes: number;
  /** GPUs on each node; on CPUs the processes on each. */
  readonly gpus: number;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly priority: ClusterSettings["run"]["priority"];
}

export interface NodePool {
  /** Example: `l4-spot`. */
  readonly name: string;
  readonly spot: boolean;
  readonly nodeLabels: Readonly<Record<string, string>>;
  readonly taints: readonly Taint[];
  readonly tolerations: readonly Toleration[];
  readonly quota: { readonly gpus: number; readonly cpus: number; readonly memoryBytes: number };
}

export interface ClaimLayout {
  /** Undefined takes the cluster's default class. */
  readonly storageClass: string | undefined;
  /** Bucket in which the volume lies, mounted by Cloud Storage FUSE; undefined for a volume of a storage class. */
  readonly bucket: string | undefined;
  readonly accessMode: "ReadWriteOnce" | "ReadWriteMany";
  readonly bytes: number;
}

export interface StorageClassLayout {
  /** Name, to which the namespace is added. Example: `files`. */
  readonly name: string;
  /** Driver that makes its volumes. Example: `filestore.csi.storage.gke.io`. */
  readonly provisioner: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** What is known only when the stack is made; a test answers with plain strings. */
export interface Resolver {
  readonly image: (reference: ImageReference) => Input<string>;
  /** Value of the secret in this file. */
  readonly secret: (file: string) => Input<string>;
  /** Content of a file or folder of this machine, by path below it; the file's own name for a file. */
  readonly files: (source: string) => ReadonlyMap<string, Buffer>;
}
