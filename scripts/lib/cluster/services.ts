import type { V1Pod, V1PodTemplateSpec } from "@kubernetes/client-node";
import { LABELS } from "../../../k8s/names.ts";
import type { ContainerState } from "../workloads.ts";
import type { ClusterClient } from "./client.ts";
import { podsOf } from "./helper-pod.ts";
import { byAge, cronState, daemonSetState, deploymentState } from "./states.ts";

/** Labels of a service's objects and pods. */
function selector({ stack }: ClusterClient, name: string): string {
  return `${LABELS.name}=${name},${LABELS.instance}=${stack}`;
}

/** A service: a Deployment, a DaemonSet, or CronJobs that do its work by the clock. */
export async function readService(client: ClusterClient, name: string): Promise<ContainerState> {
  const { namespace, apps, batch } = client;
  const labelSelector = selector(client, name);
  if ((await client.find(() => apps.readNamespacedDeployment({ name, namespace }))) !== undefined)
    return deploymentState(await podsOf(client, labelSelector));
  const daemonSet = await client.find(() => apps.readNamespacedDaemonSet({ name, namespace }));
  if (daemonSet !== undefined) return daemonSetState(daemonSet, await podsOf(client, labelSelector));
  const [cronJobs, jobs] = await Promise.all([
    client.call(() => batch.listNamespacedCronJob({ namespace, labelSelector })),
    client.call(() => batch.listNamespacedJob({ namespace, labelSelector })),
  ]);
  return cronState(cronJobs.items, jobs.items);
}

/** Its pods, the newest last. */
export async function servicePods(client: ClusterClient, name: string): Promise<readonly V1Pod[]> {
  return [...(await podsOf(client, selector(client, name)))].sort(byAge);
}

/** The pods of what the clock starts; undefined where a stack has nothing of the kind. */
export async function jobTemplate(client: ClusterClient): Promise<V1PodTemplateSpec | undefined> {
  const { namespace, stack, batch } = client;
  const labelSelector = `${LABELS.instance}=${stack}`;
  const { items } = await client.call(() => batch.listNamespacedCronJob({ namespace, labelSelector }));
  return items[0]?.spec?.jobTemplate.spec?.template;
}
