import type { Input } from "@pulumi/pulumi";
import type { ImageReference, VolumeName } from "../stacks/plan/types.ts";
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
  readonly accessMode: "ReadWriteOnce" | "ReadWriteMany";
  readonly bytes: number;
}

/** What is known only when the stack is made; a test answers with plain strings. */
export interface Resolver {
  readonly image: (reference: ImageReference) => Input<string>;
  /** Value of the secret in this file. */
  readonly secret: (file: string) => Input<string>;
  /** Content of a file or folder of this machine, by path below it; the file's own name for a file. */
  readonly files: (source: string) => ReadonlyMap<string, Buffer>;
}
