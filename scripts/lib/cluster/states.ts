import type { V1ContainerStatus, V1CronJob, V1DaemonSet, V1Job, V1Pod } from "@kubernetes/client-node";
import { GPU_RESOURCE } from "../../../stacks/settings/gpu-nodes.ts";
import { type ContainerState, MISSING } from "../workloads.ts";
import { flavorOf, isPending, type QueuedWorkload, queueText } from "./queue.ts";

/** A pod that works now, so that a program can be run in it. */
export function isAtWork({ metadata, status }: V1Pod): boolean {
  return (
    status?.phase === "Running" && metadata?.deletionTimestamp === undefined && only({ status })?.state?.running != null
  );
}

/** Whether a pod has ended, well or not. */
export function hasEnded({ status }: V1Pod): boolean {
  return status?.phase === "Succeeded" || status?.phase === "Failed";
}

export function byAge(a: V1Pod, b: V1Pod): number {
  return (a.metadata?.creationTimestamp?.getTime() ?? 0) - (b.metadata?.creationTimestamp?.getTime() ?? 0);
}

/** Every pod of ours has one container. */
function only({ status }: Pick<V1Pod, "status">): V1ContainerStatus | undefined {
  return status?.containerStatuses?.[0];
}

function isReady({ status }: V1Pod): boolean {
  return status?.conditions?.some((one) => one.type === "Ready" && one.status === "True") === true;
}

/** What keeps a pod from running, for people; undefined where nothing does. */
export function obstacleOf(pod: V1Pod): string | undefined {
  const waiting = only(pod)?.state?.waiting;
  if (waiting?.reason !== undefined && waiting.reason !== "ContainerCreating")
    return [waiting.reason, firstLine(waiting.message)].filter((part) => part !== undefined).join(": ");
  const placed = pod.status?.conditions?.find(({ type }) => type === "PodScheduled");
  if (placed?.status === "False") return firstLine(placed.message) ?? placed.reason;
  if (pod.spec?.nodeName === undefined) return "waits for a node";
  return pod.status?.phase === "Pending" ? `starts on ${pod.spec.nodeName}` : undefined;
}

function firstLine(text: string | undefined): string | undefined {
  const line = text?.split("\n")[0]?.trim();
  return line === "" ? undefined : line;
}

/** A Deployment, by its newest pod. */
export function deploymentState(pods: readonly V1Pod[]): ContainerState {
  const pod = [...pods].sort(byAge).findLast(({ metadata }) => metadata?.deletionTimestamp === undefined);
  if (pod === undefined) return { ...MISSING, exists: true, running: true, health: "starting" };
  const container = only(pod);
  const reachable = isAtWork(pod);
  const before = container?.lastState?.terminated;
  return {
    exists: true,
    running: true,
    reachable,
    health: serviceHealth(pod, container),
    startedAt: container?.state?.running?.startedAt?.toISOString(),
    exitCode: reachable ? undefined : before?.exitCode,
    restarts: container?.restartCount ?? 0,
    lastCheck: obstacleOf(pod),
  };
}

function serviceHealth(pod: V1Pod, container: V1ContainerStatus | undefined): string {
  if (isReady(pod)) return "healthy";
  if (container?.state?.waiting?.reason === "CrashLoopBackOff") return "restarting";
  // Until its start-up check has passed once, it is given time.
  return container?.started === true ? "unhealthy" : "starting";
}

/** A DaemonSet: well where each node that should have a pod has one. Where the nodes come when they are needed, that is none. */
export function daemonSetState({ status }: V1DaemonSet, pods: readonly V1Pod[]): ContainerState {
  const { desiredNumberScheduled: wanted = 0, numberReady: ready = 0 } = status ?? {};
  const reachable = pods.some(isAtWork);
  return {
    ...MISSING,
    exists: true,
    running: true,
    reachable,
    health: ready >= wanted ? "healthy" : reachable ? "unhealthy" : "starting",
    lastCheck:
      ready >= wanted
        ? undefined
        : (pods.map(obstacleOf).find((one) => one !== undefined) ?? `on ${ready} of ${wanted} nodes`),
  };
}

/** A service that the clock starts: well where its last jobs ended well. A job of it can be started at any time. */
export function cronState(cronJobs: readonly V1CronJob[], jobs: readonly V1Job[]): ContainerState {
  if (cronJobs.length === 0) return MISSING;
  const suspended = cronJobs.some(({ spec }) => spec?.suspend === true);
  const failed = cronJobs.map(({ metadata }) => failureOf(metadata?.name ?? "", jobs)).find((one) => one !== undefined);
  const times = cronJobs.flatMap(({ status }) => status?.lastScheduleTime ?? []);
  const last = times.sort((a, b) => a.getTime() - b.getTime()).at(-1);
  return {
    ...MISSING,
    exists: true,
    running: true,
    reachable: true,
    health: suspended ? "suspended" : failed === undefined ? "healthy" : "unhealthy",
    startedAt: last?.toISOString(),
    lastCheck: failed,
  };
}

/** Why the last job of a CronJob that has ended failed; undefined where it did not, or none has ended yet. */
function failureOf(cronJob: string, jobs: readonly V1Job[]): string | undefined {
  const ended = jobs
    .filter(({ metadata }) => metadata?.ownerReferences?.some(({ name }) => name === cronJob) === true)
    .filter(({ status }) => status?.conditions?.some(({ type, status: is }) => isEnd(type) && is === "True") === true)
    .sort((a, b) => (a.metadata?.creationTimestamp?.getTime() ?? 0) - (b.metadata?.creationTimestamp?.getTime() ?? 0));
  const failure = ended.at(-1)?.status?.conditions?.find(({ type, status }) => type === "Failed" && status === "True");
  return failure === undefined ? undefined : `${cronJob}: ${failure.message ?? failure.reason ?? "failed"}`;
}

function isEnd(type: string): boolean {
  return type === "Complete" || type === "Failed";
}

/** What is known of a run: its object's end, what Kueue says of it and of the others, and its pods. */
export interface RunFacts {
  readonly ended: "completed" | "failed" | undefined;
  readonly own: QueuedWorkload | undefined;
  readonly all: readonly QueuedWorkload[];
  readonly pods: readonly V1Pod[];
  /** Kind of the GPUs of the node that the first pod is on. Example: `NVIDIA-L4`. */
  readonly gpu: string | undefined;
}

/** A run, from the queue to its end. One that was stopped stands still until it is started again. */
export function runState({ ended, own, all, pods, gpu }: RunFacts): ContainerState {
  const sorted = [...pods].sort(byAge);
  const atWork = sorted.filter(isAtWork);
  const newest = atWork.at(-1) ?? sorted.at(-1);
  const stopped = own?.spec.active === false;
  const leaving = sorted.some((pod) => !hasEnded(pod));
  const running = ended === undefined && (!stopped || leaving);
  const container = newest === undefined ? undefined : only(newest);
  const started = container?.state?.running?.startedAt ?? container?.state?.terminated?.startedAt;
  const exitCode = running ? undefined : endCode(ended, sorted);
  const waitsFor = running && atWork.length === 0 ? waitText({ own, all, newest }) : undefined;
  return {
    exists: true,
    running,
    reachable: atWork.length > 0,
    health: runHealth({ running, stopped, exitCode, newest, waitsFor }),
    startedAt: started?.toISOString(),
    exitCode,
    restarts: sorted.filter(hasEnded).length,
    lastCheck: newest === undefined || !running ? undefined : obstacleOf(newest),
    waitsFor,
    machine: running && newest !== undefined ? machineText(newest, gpu ?? flavorOf(own)) : undefined,
  };
}

function waitText({
  own,
  all,
  newest,
}: Pick<RunFacts, "own" | "all"> & { readonly newest: V1Pod | undefined }): string {
  if (own === undefined) return "waits for Kueue";
  const queued = isPending(own) ? queueText(all, own) : undefined;
  if (queued !== undefined) return queued;
  if (newest === undefined || hasEnded(newest)) return "admitted, waits for its pods";
  return obstacleOf(newest) ?? "starts";
}

interface RunMoment {
  readonly running: boolean;
  readonly stopped: boolean;
  readonly exitCode: number | undefined;
  readonly newest: V1Pod | undefined;
  readonly waitsFor: string | undefined;
}

function runHealth({ running, stopped, exitCode, newest, waitsFor }: RunMoment): string {
  if (!running) return stopped ? "stopped" : `exited (${exitCode ?? "?"})`;
  if (stopped) return "stopping";
  if (waitsFor !== undefined || newest === undefined)
    return waitsFor?.startsWith("waits in the queue") === true ? "queued" : "starting";
  return isReady(newest) ? "healthy" : "running";
}

/** A run on several nodes ended as the first of its pods that failed. */
function endCode(ended: RunFacts["ended"], pods: readonly V1Pod[]): number | undefined {
  if (ended === "completed") return 0;
  const codes = pods.map((pod) => only(pod)?.state?.terminated?.exitCode).filter((code) => code !== undefined);
  return codes.findLast((code) => code !== 0) ?? codes.at(-1);
}

function machineText({ spec }: V1Pod, gpu: string | undefined): string | undefined {
  if (spec?.nodeName === undefined) return undefined;
  const count = spec.containers[0]?.resources?.limits?.[GPU_RESOURCE];
  if (count === undefined) return spec.nodeName;
  return `${spec.nodeName} (${count === "1" ? "" : `${count} × `}${gpu ?? "GPU"})`;
}
