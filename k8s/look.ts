import {
  ApisApi,
  AuthorizationV1Api,
  CoreV1Api,
  type KubeConfig,
  type KubernetesObject,
  KubernetesObjectApi,
  NodeV1Api,
  StorageV1Api,
  VersionApi,
} from "@kubernetes/client-node";
import { z } from "zod";
import type { WorkloadName } from "../stacks/plan/types.ts";
import { GPU_RESOURCE } from "../stacks/settings/gpu-nodes.ts";
import { explainCluster, isPassing, statusOf } from "./access.ts";
import { LABELS } from "./names.ts";
import { type ObjectName, RUN_KINDS, readTemplate } from "./run-kinds.ts";

/** What a cluster holds, as far as a stack depends on it. Undefined is what this login may not see. */
export interface ClusterFacts {
  readonly context: string;
  /** Of Kubernetes. Example: `v1.35.4`. */
  readonly version: string;
  /** Versions that are served of each group of APIs. Example: `kueue.x-k8s.io` → `["v1beta2", "v1beta1"]`. */
  readonly apis: ReadonlyMap<string, readonly string[]>;
  readonly nodes: readonly NodeFacts[] | undefined;
  /** Something makes nodes when they are needed. */
  readonly autoscaled: boolean | undefined;
  readonly runtimeClasses: readonly string[] | undefined;
  readonly storageClasses: readonly StorageClassFacts[] | undefined;
  /** Volumes that the stack has already. */
  readonly claims: readonly string[];
  /** What this login may not do of what the stack needs. Example: `create clusterqueues.kueue.x-k8s.io`. */
  readonly missingRights: readonly string[];
  /** The runs that the stack has there, whatever their state. */
  readonly runs: readonly LiveRun[];
}

export interface NodeFacts {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly gpus: number;
}

export interface StorageClassFacts {
  readonly name: string;
  readonly provisioner: string;
  readonly isDefault: boolean;
}

export interface LiveRun {
  readonly object: string;
  readonly run: string;
  readonly specification: string | undefined;
  readonly image: string | undefined;
  /** Queued or at work, and not stopped. */
  readonly inProgress: boolean;
  readonly failed: boolean;
}

/** What a stack does in a cluster, as the API server names it. */
export interface Right {
  readonly verb: string;
  readonly group: string;
  readonly resource: string;
  readonly subresource?: string;
  /** In the stack's namespace; else in the whole cluster. */
  readonly inNamespace: boolean;
}

export interface Asked {
  readonly stack: string;
  readonly namespace: string;
  /** Name of the workload that trains. */
  readonly training: WorkloadName;
  readonly rights: readonly Right[];
}

/**
 * Looks at a cluster; changes nothing.
 * @throws ClusterError where it cannot be asked.
 */
export async function lookAtCluster(config: KubeConfig, asked: Asked): Promise<ClusterFacts> {
  try {
    const { gitVersion } = await config.makeApiClient(VersionApi).getCode();
    const { groups } = await config.makeApiClient(ApisApi).getAPIVersions();
    const apis = new Map(groups.map(({ name, versions }) => [name, versions.map(({ version }) => version)]));
    const core = config.makeApiClient(CoreV1Api);
    const [nodes, autoscaled, runtimeClasses, storageClasses, claims, missingRights, runs] = await Promise.all([
      readNodes(core),
      isAutoscaled(core, apis),
      seen(async () => (await config.makeApiClient(NodeV1Api).listRuntimeClass()).items.map(nameOf)),
      readStorageClasses(config),
      seen(async () =>
        (await core.listNamespacedPersistentVolumeClaim({ namespace: asked.namespace })).items.map(nameOf),
      ),
      readMissingRights(config, asked),
      readRuns(config, asked, apis),
    ]);
    const context = config.getCurrentContext();
    return {
      ...{ context, version: gitVersion, apis, nodes, autoscaled, runtimeClasses, storageClasses },
      ...{ claims: claims ?? [], missingRights, runs },
    };
  } catch (error) {
    throw explainCluster(config, error) ?? error;
  }
}

/** Undefined for what this login may not see. */
async function seen<T>(body: () => Promise<T>): Promise<T | undefined> {
  try {
    return await body();
  } catch (error) {
    if (statusOf(error) === 403) return undefined;
    throw error;
  }
}

function nameOf({ metadata }: { readonly metadata?: { readonly name?: string } }): string {
  return metadata?.name ?? "";
}

const NODES_PAGE = 500;

async function readNodes(core: CoreV1Api): Promise<readonly NodeFacts[] | undefined> {
  return await seen(async () => {
    const found: NodeFacts[] = [];
    let next: string | undefined;
    do {
      const page = await core.listNode({ limit: NODES_PAGE, ...(next === undefined ? {} : { _continue: next }) });
      for (const node of page.items) {
        const gpus = Number(node.status?.allocatable?.[GPU_RESOURCE] ?? 0);
        found.push({ name: nameOf(node), labels: node.metadata?.labels ?? {}, gpus });
      }
      next = page.metadata?._continue;
    } while (next !== undefined && next !== "");
    return found;
  });
}

/** By what the two autoscalers leave in a cluster: https://github.com/kubernetes/autoscaler, https://karpenter.sh. */
async function isAutoscaled(core: CoreV1Api, apis: ClusterFacts["apis"]): Promise<boolean | undefined> {
  if (apis.has("karpenter.sh")) return true;
  return await seen(async () => {
    try {
      await core.readNamespacedConfigMap({ name: "cluster-autoscaler-status", namespace: "kube-system" });
      return true;
    } catch (error) {
      if (statusOf(error) === 404) return false;
      throw error;
    }
  });
}

const DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class";

async function readStorageClasses(config: KubeConfig): Promise<readonly StorageClassFacts[] | undefined> {
  return await seen(async () =>
    (await config.makeApiClient(StorageV1Api).listStorageClass()).items.map((one) => ({
      name: nameOf(one),
      provisioner: one.provisioner,
      isDefault: one.metadata?.annotations?.[DEFAULT_CLASS] === "true",
    })),
  );
}

async function readMissingRights(config: KubeConfig, { namespace, rights }: Asked): Promise<readonly string[]> {
  const api = config.makeApiClient(AuthorizationV1Api);
  const answers = await Promise.all(
    rights.map(async (right) => {
      const { verb, group, resource, subresource, inNamespace } = right;
      const attributes = {
        ...{ verb, group, resource },
        ...(subresource === undefined ? {} : { subresource }),
        ...(inNamespace ? { namespace } : {}),
      };
      const review = { spec: { resourceAttributes: attributes } };
      const { status } = await patiently(() => api.createSelfSubjectAccessReview({ body: review }));
      return status?.allowed === true ? [] : [rightText(right)];
    }),
  );
  return answers.flat();
}

/** A server that is asked much at once may put some off. */
async function patiently<T>(body: () => Promise<T>): Promise<T> {
  return await body().catch(async (error: unknown) => {
    if (!isPassing(error)) throw error;
    return await body();
  });
}

/** In kubectl's words. Example: `create clusterqueues.kueue.x-k8s.io`. */
function rightText({ verb, group, resource, subresource }: Right): string {
  const what = subresource === undefined ? resource : `${resource}/${subresource}`;
  return `${verb} ${what}${group === "" ? "" : `.${group}`}`;
}

const queuedSchema = z.object({
  metadata: z.object({ ownerReferences: z.array(z.object({ uid: z.string() })).default([]) }),
  spec: z.object({ active: z.boolean().default(true) }),
});

async function readRuns(
  config: KubeConfig,
  { stack, namespace, training }: Asked,
  apis: ClusterFacts["apis"],
): Promise<readonly LiveRun[]> {
  const objects = KubernetesObjectApi.makeApiClient(config);
  const selector = `${LABELS.instance}=${stack},${LABELS.name}=${training}`;
  const list = async (apiVersion: string, kind: string, labels?: string) => {
    const [group = "", version = ""] = apiVersion.split("/");
    if (apis.get(group)?.includes(version) !== true) return [];
    const all = [undefined, undefined, undefined, undefined] as const;
    return (await seen(() => objects.list(apiVersion, kind, namespace, ...all, labels)))?.items ?? [];
  };
  const stopped = new Set(
    (await list("kueue.x-k8s.io/v1beta2", "Workload"))
      .map((one) => queuedSchema.parse(one))
      .flatMap(({ metadata, spec }) => (spec.active ? [] : metadata.ownerReferences.map(({ uid }) => uid))),
  );
  const found: LiveRun[] = [];
  for (const kind of RUN_KINDS) {
    for (const object of await list(kind.apiVersion, kind.kind, selector)) {
      const { name = "", uid = "", labels = {} } = object.metadata ?? {};
      // A JobSet of the name of a TrainJob is made from it.
      if (found.some((run) => run.object === name)) continue;
      const ended = kind.ended(object);
      const template = await readTemplate(kind, object, (other) => readNamed(objects, namespace, other));
      found.push({
        object: name,
        run: labels[LABELS.run] ?? "",
        specification: labels[LABELS.specification],
        image: template?.spec.containers[0]?.image,
        inProgress: ended === undefined && !stopped.has(uid),
        failed: ended === "failed",
      });
    }
  }
  return found;
}

/** Undefined where it is gone or hidden from this login. */
async function readNamed(
  objects: KubernetesObjectApi,
  namespace: string,
  { apiVersion, kind, name }: ObjectName,
): Promise<KubernetesObject | undefined> {
  return await seen(async () => {
    try {
      return await objects.read<KubernetesObject>({ apiVersion, kind, metadata: { name, namespace } });
    } catch (error) {
      if (statusOf(error) === 404) return undefined;
      throw error;
    }
  });
}
