import type { Plan, WorkloadName } from "../stacks/plan/types.ts";
import type { ClusterLayout, Resolver } from "./layout.ts";
import { clusterName, inCluster, inNamespace, SECRET_NAME, stackLabels } from "./names.ts";
import type { NamespaceObject, PriorityClassObject, Rendered, SecretObject, ServiceAccountObject } from "./objects.ts";
import { secretKey } from "./render-pod.ts";

/** The namespace, in which no pod may do more than the level `restricted` of the pod security standards lets it. */
export function renderNamespace(layout: ClusterLayout): NamespaceObject {
  const levels = ["enforce", "audit", "warn"].flatMap((mode) => [
    [`pod-security.kubernetes.io/${mode}`, "restricted"],
    [`pod-security.kubernetes.io/${mode}-version`, "latest"],
  ]);
  return {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: layout.namespace, labels: { ...stackLabels(layout.stack), ...Object.fromEntries(levels) } },
  };
}

/** An account for each part, so that a right given to one is given to no other; none gets a token by itself. */
export function renderServiceAccount(layout: ClusterLayout, name: WorkloadName): ServiceAccountObject {
  const annotations = layout.identities[name];
  return {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { ...inNamespace(layout, name), ...(annotations === undefined ? {} : { annotations }) },
    automountServiceAccountToken: false,
  };
}

/** Every secret that some pod reads; a pod mounts those alone that it needs. */
export function renderSecret(plan: Plan, layout: ClusterLayout, resolve: Resolver): SecretObject {
  const workloads = [...plan.services, ...(plan.run === undefined ? [] : [plan.run.workload])];
  const mounted = workloads.flatMap(({ mounts }) =>
    mounts.flatMap((mount) => (mount.kind === "secret" ? [[secretKey(mount.path), mount.source] as const] : [])),
  );
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: inNamespace(layout, SECRET_NAME),
    type: "Opaque",
    stringData: Object.fromEntries([...new Map(mounted)].sort().map(([key, file]) => [key, resolve.secret(file)])),
  };
}

/** Who goes first where a node is full. Which run is admitted at all is Kueue's to say, so runs push nobody out. */
const PRIORITIES = {
  services: {
    value: 1000,
    preemptionPolicy: "PreemptLowerPriority",
    description: "Services of a tunestack stack: they find room before runs do.",
  },
  runs: {
    value: 100,
    preemptionPolicy: "Never",
    description: "Runs of a tunestack stack: Kueue decides which of them goes first.",
  },
} as const;

export function priorityClassName(layout: ClusterLayout, of: keyof typeof PRIORITIES): string {
  return clusterName(layout, of);
}

export function renderPriorityClasses(layout: ClusterLayout): readonly Rendered[] {
  return (["services", "runs"] as const).map((of) => {
    const object: PriorityClassObject = {
      apiVersion: "scheduling.k8s.io/v1",
      kind: "PriorityClass",
      metadata: inCluster(layout, of),
      globalDefault: false,
      ...PRIORITIES[of],
    };
    return { logicalName: `priority-${of}`, object };
  });
}
