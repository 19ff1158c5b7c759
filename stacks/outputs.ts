import type { Plan, VolumeName, WorkloadName } from "./plan/types.ts";

/** What a stack tells the scripts; they read nothing else of it. Raise `version` with every change that breaks a reader. */
export type StackOutputs = DockerOutputs | GcpVmOutputs | ClusterOutputs;

/** The stack is in a cluster, whoever made it. */
export type ClusterOutputs = KubernetesOutputs | GkeOutputs;

/** What every target tells. */
interface CommonOutputs {
  readonly version: 1;
  readonly stack: string;
  readonly services: readonly ServiceOutput[];
  readonly run?: RunOutput;
  readonly leftOut: readonly { readonly service: string; readonly reason: string }[];
  readonly volumes: Readonly<Record<VolumeName, string>>;
  readonly images: Readonly<Record<string, string>>;
}

export interface DockerOutputs extends CommonOutputs {
  readonly target: "docker";
  /** Engine that the containers are on; undefined is the local socket. */
  readonly engine?: string;
}

/** The containers and volumes are on the VM's engine; ports are those of the VM's loopback address. */
export interface GcpVmOutputs extends CommonOutputs {
  readonly target: "gcp-vm";
  readonly cloud: {
    readonly project: string;
    readonly region: string;
    readonly zones: readonly string[];
    /** Managed group of the one VM; secrets and disks begin with its name. */
    readonly group: string;
    readonly provisioning: "spot" | "standard";
    /** Holds snapshots, the plan and `status/vm.json`, in which the VM tells how it is. */
    readonly bucket: string;
  };
}

/** Containers are named as the Deployments, DaemonSets and CronJobs of the namespace, and the run as its JobSet. */
export interface KubernetesOutputs extends CommonOutputs {
  readonly target: "kubernetes";
  readonly cluster: {
    readonly namespace: string;
    /** Undefined is the kubeconfig that the person's tools read by themselves. */
    readonly kubeconfig?: string;
    /** Undefined is the kubeconfig's current context. */
    readonly context?: string;
  };
}

/** As in any cluster; its context is the one that gcloud writes, with the command of `cloud`, where there is none. */
export interface GkeOutputs extends CommonOutputs {
  readonly target: "gke";
  readonly cluster: KubernetesOutputs["cluster"] & { readonly context: string };
  /** `gcloud container clusters get-credentials NAME --location LOCATION --project PROJECT` and a flag for the endpoint. */
  readonly cloud: {
    readonly project: string;
    /** Region of a regional cluster, zone of a zonal one. */
    readonly location: string;
    readonly name: string;
    /** `dns`: from anywhere, with `--dns-endpoint`; `private`: from within the network alone, with `--internal-ip`. */
    readonly endpoint: "dns" | "private";
    /** Holds snapshots. */
    readonly bucket: string;
  };
}

export interface ServiceOutput {
  readonly name: WorkloadName;
  readonly container: string;
  /** Address for a browser; undefined for a service without a port. */
  readonly url?: string;
}

export interface RunOutput {
  readonly name: string;
  readonly container: string;
  readonly preset?: string;
  readonly model?: string;
  readonly data: string;
}

export interface OutputNames {
  readonly container: (name: WorkloadName) => string;
  readonly volume: (name: VolumeName) => string;
}

/** The part of the outputs that is known without registering anything. */
export function planOutputs(plan: Plan, names: OutputNames): Omit<CommonOutputs, "images"> {
  const volumes = Object.fromEntries(plan.volumes.map(({ name }) => [name, names.volume(name)]));
  return {
    version: 1,
    stack: plan.stack,
    services: plan.services.map(({ name, ports, browse }) => ({
      name,
      container: names.container(name),
      ...(ports[0] === undefined ? {} : { url: `http://127.0.0.1:${ports[0].host}${browse ?? "/"}` }),
    })),
    ...(plan.run === undefined
      ? {}
      : {
          run: {
            name: plan.run.run,
            container: names.container(plan.run.workload.name),
            ...(plan.run.preset === undefined ? {} : { preset: plan.run.preset }),
            ...(plan.run.model === undefined ? {} : { model: plan.run.model }),
            data: plan.run.data,
          },
        }),
    leftOut: plan.leftOut,
    volumes: volumes as Record<VolumeName, string>,
  };
}
