import { setTimeout as sleep } from "node:timers/promises";
import type { KubernetesObject, V1PersistentVolumeClaim, V1Pod } from "@kubernetes/client-node";
import { claimName, LABELS } from "../../../k8s/names.ts";
import { RUN_KINDS } from "../../../k8s/run-kinds.ts";
import { VOLUMES } from "../../../stacks/plan/volumes.ts";
import type { InputsOf } from "../../../stacks/settings/load.ts";
import type { Problem } from "../../../stacks/settings/problems.ts";
import { formatDuration, parseBytes } from "../../../stacks/settings/units.ts";
import { clusterPlace } from "../../../stacks/targets/kubernetes/layout.ts";
import { type ClusterClient, openClient } from "../cluster/client.ts";
import { podsOf } from "../cluster/helper-pod.ts";
import { isLive, type QueuedWorkload } from "../cluster/queue.ts";
import { readQueue } from "../cluster/run.ts";
import { jobTemplate } from "../cluster/services.ts";
import { hasEnded } from "../cluster/states.ts";
import { ClusterWorkloads } from "../cluster/workloads.ts";
import { EXIT, UserError } from "../errors.ts";
import { command } from "../project.ts";
import { step } from "../steps.ts";
import type { VolumeEntry } from "./inventory.ts";
import type { Removal } from "./removal.ts";
import { destroyStack } from "./remove.ts";
import type { Site } from "./site.ts";
import { compareWithSnapshot, type Unsaved } from "./unsaved.ts";

/** @throws UserError where the cluster cannot be asked. */
export async function openClusterSite(inputs: InputsOf<"kubernetes">): Promise<Site> {
  const { registry } = inputs.settings.kubernetes;
  const cluster = clusterPlace(inputs);
  const { namespace } = cluster;
  const client = await openClient({ stack: inputs.stack, cluster });
  const site = await readClusterSite(client, () => destroyStack(inputs));
  const stays = `the images stay in ${registry}, and the namespace, empty or not: kubectl delete namespace ${namespace} takes it away with whatever is left in it`;
  return {
    ...site,
    remove: async (removal) => [await site.remove(removal), stays].filter((line) => line !== "").join("\n"),
  };
}

/** @param destroy takes down what the stack's state knows; claims and namespace stay then. */
export async function readClusterSite(client: ClusterClient, destroy: () => Promise<void>): Promise<Site> {
  const [objects, claims, queue, pods] = await Promise.all([
    readObjects(client),
    readClaims(client),
    readQueue(client),
    podsOf(client, `${instance(client)},${LABELS.run}`),
  ]);
  return {
    where: `in the namespace ${client.namespace} of the cluster`,
    rows: objects.map(({ kind, metadata }) => [kind ?? "", metadata?.name ?? "", "", ""]),
    volumes: claimEntries(claims),
    inProgress: inProgress(client, queue, pods),
    findUnsaved: () => findUnsavedIn(client),
    remove: async (removal) => {
      await destroy();
      await removeLeft(client);
      return await removeClaims(client, removal, claims);
    },
  };
}

const instance = ({ stack }: ClusterClient) => `${LABELS.instance}=${stack}`;

/** What has pods, or a secret: of the rest people know as little as of an engine's entries. */
const SHOWN = [
  { apiVersion: "apps/v1", kind: "Deployment" },
  { apiVersion: "apps/v1", kind: "DaemonSet" },
  { apiVersion: "batch/v1", kind: "CronJob" },
  { apiVersion: "batch/v1", kind: "Job" },
  ...RUN_KINDS.map(({ apiVersion, kind }) => ({ apiVersion, kind })),
  { apiVersion: "v1", kind: "Secret" },
];

/** Objects that a controller made of ours go with those. */
async function readObjects(client: ClusterClient): Promise<readonly KubernetesObject[]> {
  const lists = await Promise.all(SHOWN.map((kind) => listKind(client, kind)));
  return lists.flat().filter(({ metadata }) => (metadata?.ownerReferences ?? []).length === 0);
}

/** None where the cluster has no such kind. */
async function listKind(
  client: ClusterClient,
  { apiVersion, kind }: (typeof SHOWN)[number],
): Promise<readonly KubernetesObject[]> {
  const { objects, namespace } = client;
  const none = undefined;
  const list = await client.find(() =>
    objects.list(apiVersion, kind, namespace, none, none, none, none, instance(client)),
  );
  return (list?.items ?? []).map((one): KubernetesObject => ({ ...one, apiVersion, kind }));
}

async function readClaims(client: ClusterClient): Promise<readonly V1PersistentVolumeClaim[]> {
  const { core, namespace } = client;
  const labelSelector = instance(client);
  return (await client.call(() => core.listNamespacedPersistentVolumeClaim({ namespace, labelSelector }))).items;
}

function claimEntries(claims: readonly V1PersistentVolumeClaim[]): readonly VolumeEntry[] {
  return VOLUMES.flatMap(({ name: volume, holds }) => {
    const name = claimName(volume);
    const found = claims.find(({ metadata }) => metadata?.name === name);
    if (found === undefined) return [];
    const room = found.status?.capacity?.storage ?? found.spec?.resources?.requests?.storage;
    return [{ volume, name, holds, bytes: room === undefined ? undefined : bytesOf(room) }];
  });
}

/** Kubernetes writes `100Gi` for what is `100GiB` elsewhere. */
function bytesOf(quantity: string): number | undefined {
  return parseBytes(`${quantity}B`);
}

/** The run and experiments, those that wait in the queue among them, and pods that are still saving. */
function inProgress(
  { stack, namespace }: ClusterClient,
  queue: readonly QueuedWorkload[],
  pods: readonly V1Pod[],
): readonly Problem[] {
  const queued = queue.filter(isLive).map(({ metadata }) => metadata.ownerReferences[0]?.name ?? metadata.name);
  const leaving = pods.filter((pod) => !hasEnded(pod)).flatMap(({ metadata }) => metadata?.labels?.[LABELS.run] ?? []);
  return [...new Set([...queued, ...leaving])].map((run) => ({
    path: `run ${run}`,
    value: namespace,
    reason: "is in progress, or waits in the queue",
    remedy: `${command("train-stop", stack)} stops the stack's own and saves a checkpoint; kubectl --namespace ${namespace} get workloads shows them all`,
  }));
}

/** A pod for this needs the volumes and secrets of the jobs that back up. */
async function findUnsavedIn(client: ClusterClient): Promise<Unsaved> {
  if ((await jobTemplate(client)) === undefined)
    return { kind: "unknown", why: "the jobs of training-backup are not in the cluster" };
  const workloads = new ClusterWorkloads(client, undefined);
  return await compareWithSnapshot((program) => workloads.run("training-backup", program));
}

const POLL_MS = 1000;
/** A pod has its time of grace to end; a volume is let go when the last of its pods is gone. */
const PATIENCE_MS = 5 * 60_000;

/** @returns whether nothing was left in time. */
async function untilNone(look: () => Promise<number>, patienceMs: number): Promise<boolean> {
  const deadline = Date.now() + patienceMs;
  while ((await look()) > 0) {
    if (Date.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}

/** What the state did not know, such as jobs of experiments and of commands, and the pods of all that went. */
async function removeLeft(client: ClusterClient): Promise<void> {
  await step("pods", async (report) => {
    for (const one of await readObjects(client))
      await client.find(() => client.objects.delete(one, undefined, undefined, undefined, undefined, "Background"));
    const left = async () => {
      const pods = await podsOf(client, instance(client));
      report(pods.map(({ metadata }) => metadata?.name).join(", "));
      return pods.length;
    };
    if (!(await untilNone(left, PATIENCE_MS))) throw failed([stuck(client, "pods")]);
    return { said: "gone", value: undefined };
  });
}

/** @returns of the volumes that their class keeps, where they are. */
async function removeClaims(
  client: ClusterClient,
  { removed }: Removal,
  claims: readonly V1PersistentVolumeClaim[],
): Promise<string> {
  const { core, namespace } = client;
  const kept: string[] = [];
  const problems: Problem[] = [];
  for (const { name } of removed) {
    const volumeName = claims.find(({ metadata }) => metadata?.name === name)?.spec?.volumeName;
    const keeps = await keepsVolume(client, volumeName);
    await client.find(() => core.deleteNamespacedPersistentVolumeClaim({ name, namespace }));
    const look = async () => Number((await readClaims(client)).some(({ metadata }) => metadata?.name === name));
    if (!(await untilNone(look, PATIENCE_MS))) {
      problems.push(stuck(client, `persistentvolumeclaim ${name}`));
      continue;
    }
    if (keeps && volumeName !== undefined) kept.push(volumeName);
    await step(`volume ${name}`, async () => ({ said: "removed", value: undefined }));
  }
  if (problems.length > 0) throw failed(problems);
  if (kept.length === 0) return "";
  return `the cluster keeps what was in ${kept.join(", ")}, by their storage class: kubectl delete persistentvolume NAME, and what holds it`;
}

/** Not everybody may read volumes: they belong to the whole cluster. */
async function keepsVolume({ core }: ClusterClient, name: string | undefined): Promise<boolean> {
  if (name === undefined) return false;
  const volume = await core.readPersistentVolume({ name }).catch(() => undefined);
  return volume?.spec?.persistentVolumeReclaimPolicy === "Retain";
}

function stuck({ namespace }: ClusterClient, what: string): Problem {
  return {
    path: what,
    value: namespace,
    reason: `still there ${formatDuration(PATIENCE_MS / 1000)} after it was deleted`,
    remedy: `kubectl --namespace ${namespace} describe ${what} shows what holds it; then the same command again`,
  };
}

function failed(problems: readonly Problem[]): UserError {
  return new UserError(problems, EXIT.machine, "cluster");
}
