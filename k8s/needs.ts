import type { Plan } from "../stacks/plan/types.ts";
import { GPU_RESOURCE } from "../stacks/settings/gpu-nodes.ts";
import type { Problem } from "../stacks/settings/problems.ts";
import type { ClusterLayout, NodePool } from "./layout.ts";
import type { Asked, ClusterFacts, LiveRun, NodeFacts, Right, StorageClassFacts } from "./look.ts";
import { claimName, runObjectName } from "./names.ts";
import { runSpecification } from "./render-run.ts";

/** One thing that was looked at: well, in doubt (it works, or may, with something to know), or wrong. */
export type Finding =
  | { readonly verdict: "well"; readonly subject: string; readonly said: string }
  | { readonly verdict: "doubt" | "wrong"; readonly subject: string; readonly problem: Problem };

/** What has to be in the cluster before a stack is, with the release that tunestack was tested with. */
interface Controller {
  readonly title: string;
  readonly group: string;
  readonly version: string;
  /** Arguments of `kubectl apply`. */
  readonly install: string;
}

const KUEUE: Controller = {
  title: "Kueue",
  group: "kueue.x-k8s.io",
  version: "v1beta2",
  install: "-f https://github.com/kubernetes-sigs/kueue/releases/download/v0.16.1/manifests.yaml",
};
const JOBSET: Controller = {
  title: "JobSet",
  group: "jobset.x-k8s.io",
  version: "v1alpha2",
  install: "-f https://github.com/kubernetes-sigs/jobset/releases/download/v0.11.1/manifests.yaml",
};
/** Its release brings JobSet along. */
const TRAINER: Controller = {
  title: "Kubeflow Trainer",
  group: "trainer.kubeflow.org",
  version: "v1alpha1",
  install: "-k 'https://github.com/kubeflow/trainer.git/manifests/overlays/manager?ref=v2.1.0'",
};
/** What runs the runs, by `runAs`. */
const RUNNERS: Readonly<Record<ClusterLayout["runAs"], Controller>> = { jobset: JOBSET, trainjob: TRAINER };
const DEVICE_PLUGIN =
  "https://raw.githubusercontent.com/NVIDIA/k8s-device-plugin/v0.17.1/deployments/static/nvidia-device-plugin.yml";

/** Labels that nodes with NVIDIA's GPUs get from hardware discovery or their cloud, plugin or not. */
const GPU_LABELS = [
  "nvidia.com/gpu.present",
  "feature.node.kubernetes.io/pci-10de.present",
  "feature.node.kubernetes.io/pci-0302_10de.present",
  "cloud.google.com/gke-accelerator",
  "k8s.amazonaws.com/accelerator",
];

/** Disks that one node alone can mount, by what makes them; their documentation says so. Read 2026-11-29. */
const ONE_NODE_DISKS = [
  "pd.csi.storage.gke.io",
  "kubernetes.io/gce-pd",
  "ebs.csi.aws.com",
  "kubernetes.io/aws-ebs",
  "disk.csi.azure.com",
  "rancher.io/local-path",
  "openebs.io/local",
];

/** Everything that a stack needs of its cluster, in the order in which it is mended. */
export function examineCluster(plan: Plan, layout: ClusterLayout, facts: ClusterFacts): readonly Finding[] {
  return [
    { verdict: "well", subject: "cluster", said: `${facts.context} answers, Kubernetes ${facts.version}` },
    rightsFinding(facts),
    ...controllersOf(layout).map((one) => controllerFinding(one, facts)),
    ...gpuFindings(plan, layout, facts),
    ...runtimeClassFindings(plan, layout, facts),
    ...storageFindings(plan, layout, facts),
    ...runFindings(plan, layout, facts),
  ];
}

/** What is wrong, or in doubt. */
export function problemsOf(findings: readonly Finding[], verdict: "doubt" | "wrong"): readonly Problem[] {
  return findings.flatMap((one) => (one.verdict === verdict ? [one.problem] : []));
}

function controllersOf({ runAs }: ClusterLayout): readonly Controller[] {
  return [RUNNERS[runAs], KUEUE];
}

/** What is asked of a cluster for a stack. */
export function askedOf(layout: ClusterLayout): Asked {
  const { stack, namespace } = layout;
  return { stack, namespace, training: "qlora-training", rights: rightsOf(layout) };
}

/** What a run is made of, by `runAs`. */
const RUN_RESOURCES: Readonly<Record<ClusterLayout["runAs"], readonly string[]>> = {
  jobset: ["jobsets"],
  trainjob: ["trainjobs", "trainingruntimes"],
};

/** What a stack and its commands do in a cluster. */
function rightsOf(layout: ClusterLayout): readonly Right[] {
  const create = (inNamespace: boolean, group: string, ...resources: readonly string[]): readonly Right[] =>
    resources.map((resource) => ({ verb: "create", group, resource, inNamespace }));
  return [
    ...create(false, "", "namespaces"),
    ...create(false, "scheduling.k8s.io", "priorityclasses"),
    ...create(false, KUEUE.group, "resourceflavors", "clusterqueues", "workloadpriorityclasses"),
    ...create(true, "", "secrets", "configmaps", "persistentvolumeclaims", "services", "serviceaccounts"),
    ...create(true, "apps", "deployments", "daemonsets"),
    ...create(true, "batch", "cronjobs", "jobs"),
    ...create(true, "networking.k8s.io", "networkpolicies"),
    ...create(true, "policy", "poddisruptionbudgets"),
    ...create(true, KUEUE.group, "localqueues"),
    ...create(true, RUNNERS[layout.runAs].group, ...RUN_RESOURCES[layout.runAs]),
    { verb: "patch", group: KUEUE.group, resource: "workloads", inNamespace: true },
    { verb: "create", group: "", resource: "pods", subresource: "exec", inNamespace: true },
    { verb: "create", group: "", resource: "pods", subresource: "portforward", inNamespace: true },
    { verb: "get", group: "", resource: "pods", subresource: "log", inNamespace: true },
  ];
}

function rightsFinding({ missingRights, context }: ClusterFacts): Finding {
  if (missingRights.length === 0) return { verdict: "well", subject: "rights", said: "all that the stack needs" };
  return {
    verdict: "wrong",
    subject: "rights",
    problem: {
      path: `cluster ${context}`,
      reason: `this login may not: ${missingRights.join(", ")}`,
      remedy: `ask whoever runs the cluster for these rights; kubectl --context ${context} auth can-i ${missingRights[0]} tells when you have one`,
    },
  };
}

function controllerFinding({ title, group, version, install }: Controller, { apis, context }: ClusterFacts): Finding {
  const served = apis.get(group);
  if (served?.includes(version) === true)
    return { verdict: "well", subject: title, said: `serves ${group}/${version}` };
  return {
    verdict: "wrong",
    subject: title,
    problem: {
      path: `cluster ${context}`,
      value: title,
      reason:
        served === undefined
          ? `is not installed: nothing serves ${group}/${version}`
          : `is of another release: it serves ${served.join(", ")} of ${group}, and not ${version}`,
      remedy: `kubectl --context ${context} apply --server-side ${install}`,
    },
  };
}

function gpuFindings(plan: Plan, { pools }: ClusterLayout, facts: ClusterFacts): readonly Finding[] {
  const wanted = pools.filter(({ quota }) => quota.gpus > 0);
  if (plan.run === undefined || plan.run.workload.gpu === "none" || wanted.length === 0) return [];
  if (facts.nodes === undefined)
    return [
      doubt(
        "GPUs",
        "kubernetes.queue.pools",
        "this login may not see nodes, so nobody can tell",
        "a run that finds no node says so: npm run train-status",
      ),
    ];
  const withGpus = facts.nodes.filter(({ gpus }) => gpus > 0);
  if (withGpus.length === 0) return [noGpus(facts, facts.nodes)];
  const kinds = [...new Set(withGpus.map(kindOf))].join(", ");
  const empty = wanted.filter((pool) => !withGpus.some((node) => belongs(node, pool)));
  return [
    {
      verdict: "well",
      subject: "GPUs",
      said: `${withGpus.reduce((sum, { gpus }) => sum + gpus, 0)} on ${withGpus.length} nodes: ${kinds}`,
    },
    ...(facts.autoscaled === false ? empty.map((pool) => emptyPool(pool, kinds)) : []),
  ];
}

function kindOf({ labels }: NodeFacts): string {
  return labels[`${GPU_RESOURCE}.product`] ?? `no label ${GPU_RESOURCE}.product`;
}

function belongs({ labels }: NodeFacts, { nodeLabels }: NodePool): boolean {
  return Object.entries(nodeLabels).every(([key, value]) => labels[key] === value);
}

function noGpus({ context, autoscaled }: ClusterFacts, nodes: readonly NodeFacts[]): Finding {
  const hidden = nodes.filter(({ labels }) => GPU_LABELS.some((label) => labels[label] !== undefined));
  if (hidden.length > 0) {
    return {
      verdict: "wrong",
      subject: "GPUs",
      problem: {
        path: `cluster ${context}`,
        value: hidden
          .map(({ name }) => name)
          .slice(0, 3)
          .join(", "),
        reason: `has GPUs that no pod can ask for: NVIDIA's device plugin is missing, so no node offers ${GPU_RESOURCE}`,
        remedy: `kubectl --context ${context} apply -f ${DEVICE_PLUGIN} (or NVIDIA's GPU operator, which installs the driver too)`,
      },
    };
  }
  const reason = `no node offers ${GPU_RESOURCE}`;
  if (autoscaled !== false)
    return doubt(
      "GPUs",
      `cluster ${context}`,
      `${reason} now`,
      "nothing, where nodes with GPUs are made when a run needs them",
    );
  return {
    verdict: "wrong",
    subject: "GPUs",
    problem: {
      path: `cluster ${context}`,
      reason: `${reason}, and nothing makes nodes when they are needed: a run would wait for ever`,
      remedy: `add a node with a GPU and the device plugin: kubectl --context ${context} apply -f ${DEVICE_PLUGIN}; or train on CPUs: kubernetes.queue.pools: [{gpu: none}]`,
    },
  };
}

function emptyPool({ name, nodeLabels }: NodePool, kinds: string): Finding {
  const labels = Object.entries(nodeLabels).map(([key, value]) => `${key}=${value}`);
  return doubt(
    `pool ${name}`,
    "kubernetes.queue.pools",
    `no node of the pool ${name} is there (${labels.join(",")}); nodes with GPUs have ${kinds}`,
    "set gpu or nodeLabels of the pool to what its nodes have: kubectl get nodes --show-labels",
  );
}

function runtimeClassFindings(plan: Plan, { runtimeClass }: ClusterLayout, facts: ClusterFacts): readonly Finding[] {
  const needed = plan.services.some(({ gpu }) => gpu === "monitor");
  if (!needed || runtimeClass === undefined || facts.runtimeClasses === undefined) return [];
  if (facts.runtimeClasses.includes(runtimeClass))
    return [{ verdict: "well", subject: "runtime class", said: runtimeClass }];
  return [
    {
      verdict: "wrong",
      subject: "runtime class",
      problem: {
        path: "kubernetes.runtimeClass",
        value: runtimeClass,
        reason: `is no runtime class of the cluster, which has ${listed(facts.runtimeClasses)}; gpu-monitor sees GPUs by it`,
        remedy: `NVIDIA's GPU operator makes it; where nodes have nvidia-container-toolkit: kubectl --context ${facts.context} create -f - <<< '{"apiVersion":"node.k8s.io/v1","kind":"RuntimeClass","metadata":{"name":"${runtimeClass}"},"handler":"nvidia"}'; or go without: services.gpu-monitor.enabled: false`,
      },
    },
  ];
}

function storageFindings(plan: Plan, layout: ClusterLayout, facts: ClusterFacts): readonly Finding[] {
  const { storageClasses, claims } = facts;
  if (storageClasses === undefined) return [];
  const making = plan.volumes
    .map(({ name }) => ({ name, claim: layout.claims[name] }))
    .filter(({ name }) => !claims.includes(claimName(name)));
  const wanted = new Map(making.map(({ claim }) => [`${claim.storageClass} ${claim.accessMode}`, claim]));
  return [...wanted.values()].map((claim) => storageFinding(claim, storageClasses, facts));
}

function storageFinding(
  { storageClass, accessMode }: ClusterLayout["claims"][keyof ClusterLayout["claims"]],
  classes: readonly StorageClassFacts[],
  { context }: ClusterFacts,
): Finding {
  const setting = accessMode === "ReadWriteMany" ? "kubernetes.storage.sharedClass" : "kubernetes.storage.singleClass";
  const subject = accessMode === "ReadWriteMany" ? "shared volumes" : "volumes";
  const found =
    storageClass === undefined
      ? classes.find(({ isDefault }) => isDefault)
      : classes.find(({ name }) => name === storageClass);
  const names = classes.map(({ name }) => name);
  if (found === undefined) {
    const problem =
      storageClass === undefined
        ? {
            path: setting,
            reason: `is not set, and the cluster has no default storage class; it has ${listed(names)}`,
            remedy: `npx pulumi config set --path 'tunestack:${setting}' NAME, or make one the default: kubectl --context ${context} annotate storageclass NAME storageclass.kubernetes.io/is-default-class=true`,
          }
        : {
            path: setting,
            value: storageClass,
            reason: `is no storage class of the cluster, which has ${listed(names)}`,
            remedy: `npx pulumi config set --path 'tunestack:${setting}' NAME`,
          };
    return { verdict: "wrong", subject, problem };
  }
  if (accessMode === "ReadWriteMany" && ONE_NODE_DISKS.includes(found.provisioner)) {
    return {
      verdict: "wrong",
      subject,
      problem: {
        path: setting,
        value: found.name,
        reason: `makes disks that one node alone can mount (${found.provisioner}), and the pods of a stack are on several`,
        remedy:
          "set it to a class of a file system that is shared (NFS, Filestore, EFS, CephFS), or set kubernetes.storage.spread: one-node where all pods are on the same node",
      },
    };
  }
  return { verdict: "well", subject, said: `storage class ${found.name} (${found.provisioner})` };
}

function listed(names: readonly string[]): string {
  return names.length === 0 ? "none" : names.join(", ");
}

/** A run in progress is not replaced by another, or by itself with other settings. */
function runFindings({ run }: Plan, layout: ClusterLayout, { runs }: ClusterFacts): readonly Finding[] {
  if (run === undefined || run.replaceRunning) return [];
  return runs
    .filter(
      (live) =>
        live.inProgress &&
        !(live.object === runObjectName(run.run) && live.specification === runSpecification(run, layout)),
    )
    .map(({ run: name }) => ({
      verdict: "wrong",
      subject: "run",
      problem: {
        path: "training",
        value: run.run,
        reason: `the run ${name} is in progress and would be replaced`,
        remedy: `stop it first: npm run train-stop -- --stack ${layout.stack} (it saves a checkpoint); or set training.replaceRunning: true`,
      },
    }));
}

/**
 * The image that a run of these very settings already has there: a new build does not start it again. One that failed is
 * tried again with what was mended.
 */
export function imageOfSameRun({ run }: Plan, layout: ClusterLayout, { runs }: ClusterFacts): string | undefined {
  if (run === undefined) return undefined;
  const live: LiveRun | undefined = runs.find(({ object }) => object === runObjectName(run.run));
  return live?.specification === runSpecification(run, layout) && !live.failed ? live.image : undefined;
}

function doubt(subject: string, path: string, reason: string, remedy: string): Finding {
  return { verdict: "doubt", subject, problem: { path, reason, remedy } };
}
