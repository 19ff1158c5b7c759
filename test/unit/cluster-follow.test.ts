import type { V1Pod } from "@kubernetes/client-node";
import { expect, test } from "vitest";
import { followPods } from "../../scripts/lib/cluster/follow-pods.ts";
import type { ContainerState } from "../../scripts/lib/workloads.ts";
import { MISSING } from "../../scripts/lib/workloads.ts";

function pod(uid: string, phase: string): V1Pod {
  return { metadata: { uid, name: uid }, spec: { nodeName: `node-of-${uid}`, containers: [] }, status: { phase } };
}

const inProgress: ContainerState = { ...MISSING, exists: true, running: true };

/** A cluster at moments one after the other; the last goes on. */
function moments(...all: readonly { readonly pods: readonly V1Pod[]; readonly state: ContainerState }[]) {
  let moment = 0;
  const said: string[] = [];
  const now = () => all[Math.min(moment, all.length - 1)] ?? { pods: [], state: MISSING };
  return {
    said,
    followed: {
      pods: async () => now().pods,
      state: async () => {
        const { state } = now();
        moment += 1;
        return state;
      },
      copy: async (one: V1Pod, lines: number) => {
        said.push(`${one.metadata?.uid}: ${lines > 1000 ? "all" : lines} lines`);
      },
      tell: (line: string) => said.push(line),
    },
  };
}

test("a run is followed from the queue on, from pod to pod, to its end", async () => {
  const { said, followed } = moments(
    { pods: [], state: { ...inProgress, waitsFor: "waits in the queue, position 2 of 2" } },
    { pods: [], state: { ...inProgress, waitsFor: "waits in the queue, position 2 of 2" } },
    { pods: [pod("a", "Pending")], state: { ...inProgress, waitsFor: "starts on node-1" } },
    { pods: [pod("a", "Running")], state: inProgress },
    { pods: [pod("a", "Failed"), pod("b", "Running")], state: inProgress },
    { pods: [pod("a", "Failed"), pod("b", "Succeeded")], state: { ...inProgress, running: false } },
  );
  await followPods(followed, 10, new AbortController().signal, 1);
  expect(said).toEqual([
    "waits in the queue, position 2 of 2",
    "starts on node-1",
    "a: 10 lines",
    "goes on in b on node-of-b",
    "b: all lines",
  ]);
});

test("following ends with the signal, however long there is nothing", async () => {
  const stop = new AbortController();
  const { said, followed } = moments({ pods: [], state: { ...inProgress, waitsFor: "waits" } });
  setTimeout(() => stop.abort(), 20);
  await followPods(followed, 10, stop.signal, 60_000);
  expect(said).toEqual(["waits"]);
});
