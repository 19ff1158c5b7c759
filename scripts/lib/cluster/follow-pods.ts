import { setTimeout as sleep } from "node:timers/promises";
import type { V1Pod } from "@kubernetes/client-node";
import type { ContainerState } from "../workloads.ts";
import { hasEnded } from "./states.ts";

export interface Followed {
  /** The newest last. */
  readonly pods: () => Promise<readonly V1Pod[]>;
  readonly state: () => Promise<ContainerState>;
  /** Copies what a pod prints until it ends. */
  readonly copy: (pod: V1Pod, lines: number) => Promise<void>;
  /** Says what is no pod's output. */
  readonly tell: (line: string) => void;
}

const POLL_MS = 1000;
/** All of it: what a new pod says from its start on. */
const EVERYTHING = 1_000_000;

/** Follows a run or service from pod to pod, as each takes the place of the one before it, until nothing is to come. */
export async function followPods(
  followed: Followed,
  lines: number,
  signal: AbortSignal,
  pollMs = POLL_MS,
): Promise<void> {
  const seen = new Set<string>();
  let told: string | undefined;
  while (!signal.aborted) {
    const pod = (await followed.pods()).at(-1);
    const uid = pod?.metadata?.uid ?? "";
    if (pod !== undefined && hasStarted(pod) && !seen.has(uid)) {
      if (seen.size > 0) followed.tell(`goes on in ${pod.metadata?.name} on ${pod.spec?.nodeName}`);
      await followed.copy(pod, seen.size === 0 ? lines : EVERYTHING);
      seen.add(uid);
      continue;
    }
    const { running, waitsFor, lastCheck } = await followed.state();
    if (!running) return;
    const waits = waitsFor ?? lastCheck;
    if (waits !== undefined && waits !== told) followed.tell(waits);
    told = waits;
    await sleep(pollMs, undefined, { signal }).catch(() => undefined);
  }
}

function hasStarted(pod: V1Pod): boolean {
  return pod.status?.phase === "Running" || hasEnded(pod);
}
