import type { ClaimLayout, ClusterLayout, NodePool } from "../../../k8s/layout.ts";
import type { Toleration } from "../../../k8s/objects.ts";
import { commonLayout } from "../../../k8s/settings.ts";
import type { KubernetesOutputs } from "../../outputs.ts";
import type { VolumeName } from "../../plan/types.ts";
import { GPU_RESOURCE, NODE_GPUS } from "../../settings/gpu-nodes.ts";
import type { PoolSettings } from "../../settings/kubernetes.ts";
import type { InputsOf } from "../../settings/load.ts";

type KubernetesSettings = InputsOf<"kubernetes">["settings"]["kubernetes"];

/** The cluster of a stack's settings. */
export function clusterLayout({ stack, settings }: InputsOf<"kubernetes">): ClusterLayout {
  const { kubernetes, training } = settings;
  return {
    ...commonLayout(stack, kubernetes, training.memory),
    pools: kubernetes.queue.pools.map(nodePool),
    claims: claimLayouts(kubernetes.storage),
    storageClasses: [],
    identities: {},
    pullSecret: kubernetes.pullSecret,
    runtimeClass: kubernetes.runtimeClass,
  };
}

/** Where that cluster is, as the outputs tell it. */
export function clusterPlace(inputs: InputsOf<"kubernetes">): KubernetesOutputs["cluster"] {
  const { kubeconfig, context } = inputs.settings.kubernetes;
  return {
    namespace: clusterLayout(inputs).namespace,
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
    ...(context === undefined ? {} : { context }),
  };
}

/** Taints of other people's clusters are not known, but those that NVIDIA's own tools set are borne with. */
const GPU_TOLERATION: Toleration = { key: GPU_RESOURCE, operator: "Exists", effect: "NoSchedule" };

function nodePool(settings: PoolSettings): NodePool {
  const { gpu, provisioning } = settings;
  return {
    name: `${gpu === "none" ? "cpu" : gpu.toLowerCase()}-${provisioning}`,
    spot: provisioning === "spot",
    nodeLabels: poolLabels(settings),
    taints: [],
    tolerations: [
      ...(gpu === "none" ? [] : [GPU_TOLERATION]),
      ...settings.taints.map((key) => ({ key, operator: "Exists", effect: "NoSchedule" })),
    ],
    quota: { gpus: gpu === "none" ? 0 : settings.gpus, cpus: settings.cpus, memoryBytes: settings.memory },
  };
}

/** The labels of a pool's nodes: those that are set, or the GPU's own. */
export function poolLabels({ gpu, nodeLabels }: PoolSettings): Readonly<Record<string, string>> {
  if (nodeLabels !== undefined) return nodeLabels;
  return gpu === "none" ? {} : { [`${GPU_RESOURCE}.product`]: NODE_GPUS[gpu].product };
}

/** Volumes that pods of one service alone mount; those of a run, of backups and of readers are on several nodes. */
const SINGLE: readonly VolumeName[] = ["training_wandb"];

function claimLayouts({
  sizes,
  sharedClass,
  singleClass,
  spread,
}: KubernetesSettings["storage"]): ClusterLayout["claims"] {
  const claim = (name: VolumeName): ClaimLayout => {
    const single = SINGLE.includes(name);
    return {
      storageClass: single ? singleClass : sharedClass,
      bucket: undefined,
      accessMode: single || spread === "one-node" ? "ReadWriteOnce" : "ReadWriteMany",
      bytes: sizes[name],
    };
  };
  return {
    training_models_cache: claim("training_models_cache"),
    training_models_gguf: claim("training_models_gguf"),
    training_checkpoints: claim("training_checkpoints"),
    training_logs: claim("training_logs"),
    training_backup: claim("training_backup"),
    training_wandb: claim("training_wandb"),
  };
}
