import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { AppsV1Api, BatchV1Api, CoreV1Api, type KubeConfig, KubernetesObjectApi } from "@kubernetes/client-node";
import { ClusterError, explainCluster, isPassing, readKubeconfig, statusOf } from "../../../k8s/access.ts";
import type { ClusterOutputs, GkeOutputs } from "../../../stacks/outputs.ts";
import { EXIT, type ExitCode, UserError } from "../errors.ts";

export type ClusterStack = Pick<ClusterOutputs, "stack" | "cluster"> & {
  /** Where gcloud finds it, for one in Google Cloud. */
  readonly cloud?: GkeOutputs["cloud"];
};

/** Waits between tries of a call that the network or the API server did not get through: a run is followed for hours. */
const WAITS_MS = [500, 1000, 2000, 5000, 10_000, 20_000];

/** The API of a stack's cluster. */
export class ClusterClient {
  readonly namespace: string;
  readonly core: CoreV1Api;
  readonly apps: AppsV1Api;
  readonly batch: BatchV1Api;
  /** Objects of any kind, those of Kueue and of runs among them. */
  readonly objects: KubernetesObjectApi;

  constructor(
    readonly config: KubeConfig,
    readonly stack: string,
    namespace: string,
  ) {
    this.namespace = namespace;
    this.core = config.makeApiClient(CoreV1Api);
    this.apps = config.makeApiClient(AppsV1Api);
    this.batch = config.makeApiClient(BatchV1Api);
    this.objects = KubernetesObjectApi.makeApiClient(config);
  }

  /**
   * Makes a call, and again where it may do a moment later.
   * @throws UserError with what mends it, where the cluster cannot be asked.
   */
  async call<T>(body: () => Promise<T>, waits: readonly number[] = WAITS_MS): Promise<T> {
    for (const wait of waits) {
      try {
        return await body();
      } catch (error) {
        if (!isPassing(error)) throw this.#explained(error);
        await sleep(wait);
      }
    }
    try {
      return await body();
    } catch (error) {
      throw this.#explained(error);
    }
  }

  /** Undefined where there is no such thing, or no such kind of things. */
  async find<T>(body: () => Promise<T>): Promise<T | undefined> {
    return await this.call(async () => {
      try {
        return await body();
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw error;
      }
    });
  }

  #explained(error: unknown): unknown {
    const known = explainCluster(this.config, error);
    return known === undefined ? error : clusterError(known);
  }
}

/** The generic client tells of a kind that the cluster does not know in words of its own. */
export function isMissing(error: unknown): boolean {
  return (
    statusOf(error) === 404 || (error instanceof Error && /^Unrecognized API version and kind/.test(error.message))
  );
}

export function clusterError({ problem, refusal }: ClusterError): UserError {
  const codes: Readonly<Record<ClusterError["refusal"], ExitCode>> = {
    kubeconfig: EXIT.settings,
    unreachable: EXIT.network,
    login: EXIT.machine,
    rights: EXIT.machine,
  };
  return new UserError([problem], codes[refusal], "cluster");
}

/**
 * The way to a stack's cluster, tried once.
 * @throws UserError where the kubeconfig does not lead there, with what mends it.
 */
export async function openClient({ stack, cluster, cloud }: ClusterStack): Promise<ClusterClient> {
  const { namespace } = cluster;
  const client = new ClusterClient(configOf(cluster, cloud), stack, namespace);
  await client.call(() => client.core.listNamespacedPod({ namespace, limit: 1 }), []);
  return client;
}

/** The outputs name the file of whoever brought the stack up; somebody else has the cluster in one of their own. */
function configOf({ kubeconfig, context }: ClusterStack["cluster"], cloud: ClusterStack["cloud"]): KubeConfig {
  const there = kubeconfig !== undefined && existsSync(kubeconfig);
  const file = there ? kubeconfig : process.env.KUBECONFIG;
  try {
    return readKubeconfig({ kubeconfig: file === "" ? undefined : file, context });
  } catch (error) {
    if (!(error instanceof ClusterError)) throw error;
    throw clusterError(cloud === undefined ? error : withCredentials(error, cloud));
  }
}

/** For a cluster in Google Cloud gcloud writes the context. */
function withCredentials({ refusal, problem }: ClusterError, cloud: GkeOutputs["cloud"]): ClusterError {
  const { project, location, name, endpoint } = cloud;
  const way = endpoint === "dns" ? "--dns-endpoint" : "--internal-ip";
  const remedy = `gcloud container clusters get-credentials ${name} --location ${location} --project ${project} ${way}`;
  return new ClusterError(refusal, { ...problem, remedy });
}
