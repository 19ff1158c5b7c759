import type { V1Pod } from "@kubernetes/client-node";
import { describe, expect, test } from "vitest";
import { workloadSchema } from "../../scripts/lib/cluster/queue.ts";
import {
  cronState,
  daemonSetState,
  deploymentState,
  type RunFacts,
  runState,
} from "../../scripts/lib/cluster/states.ts";

const STARTED = new Date("2026-11-29T10:00:00Z");

type ContainerState = NonNullable<NonNullable<V1Pod["status"]>["containerStatuses"]>[number]["state"];

function pod(name: string, phase: string, state: ContainerState, more: Partial<V1Pod> = {}): V1Pod {
  const ready = phase === "Running" ? "True" : "False";
  return {
    metadata: { name, creationTimestamp: STARTED },
    spec: {
      nodeName: "gpu-1",
      containers: [{ name: "main", resources: { limits: { "nvidia.com/gpu": "1" } } }],
    },
    status: {
      phase,
      conditions: [{ type: "Ready", status: ready }],
      containerStatuses: [
        {
          name: "main",
          image: "i",
          imageID: "i",
          ready: ready === "True",
          restartCount: 0,
          started: true,
          state: state ?? {},
        },
      ],
    },
    ...more,
  };
}

const works = pod("works", "Running", { running: { startedAt: STARTED } });
const ended = (code: number) =>
  pod(`ended-${code}`, code === 0 ? "Succeeded" : "Failed", { terminated: { exitCode: code, startedAt: STARTED } });
const unplaced: V1Pod = {
  metadata: { name: "unplaced", creationTimestamp: STARTED },
  spec: { containers: [{ name: "main" }] },
  status: {
    phase: "Pending",
    conditions: [
      { type: "PodScheduled", status: "False", message: "0/3 nodes are available: 3 Insufficient nvidia.com/gpu." },
    ],
  },
};

function queued(spec: object, conditions: readonly object[] = []) {
  return workloadSchema.parse({
    metadata: { name: "w", creationTimestamp: STARTED, ownerReferences: [{ uid: "1" }] },
    spec,
    status: {
      conditions,
      admission: { podSetAssignments: [{ flavors: { "nvidia.com/gpu": "tunestack-team-l4-spot" } }] },
    },
  });
}

const admitted = queued({}, [{ type: "QuotaReserved", status: "True" }]);

function run(facts: Partial<RunFacts>) {
  const own = "own" in facts ? facts.own : admitted;
  return runState({ ended: undefined, own, all: own === undefined ? [] : [own], pods: [], gpu: undefined, ...facts });
}

describe("a run", () => {
  test("that waits for quota is in progress, and tells its place", () => {
    expect(run({ own: queued({}) })).toMatchObject({
      running: true,
      reachable: false,
      health: "queued",
      waitsFor: "waits in the queue, position 1 of 1",
      exitCode: undefined,
    });
  });

  test("that Kueue has not seen yet waits for it", () => {
    expect(run({ own: undefined })).toMatchObject({ running: true, waitsFor: "waits for Kueue" });
  });

  test("that is admitted and finds no node says what the scheduler says", () => {
    expect(run({ pods: [unplaced] })).toMatchObject({
      running: true,
      health: "starting",
      waitsFor: "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    });
  });

  test("whose image cannot be had says so", () => {
    const waiting = { waiting: { reason: "ImagePullBackOff", message: "Back-off pulling image" } };
    expect(run({ pods: [pod("p", "Pending", waiting)] }).waitsFor).toBe("ImagePullBackOff: Back-off pulling image");
  });

  test("at work is reachable on its node, whose GPU is told by the node or by the flavor", () => {
    expect(run({ pods: [works], gpu: "NVIDIA-L4" })).toMatchObject({
      running: true,
      reachable: true,
      health: "healthy",
      machine: "gpu-1 (NVIDIA-L4)",
      waitsFor: undefined,
      startedAt: STARTED.toISOString(),
    });
    expect(run({ pods: [works] }).machine).toBe("gpu-1 (tunestack-team-l4-spot)");
  });

  test("that was stopped is in progress until its pods have ended, and then stands still", () => {
    const stopped = queued({ active: false });
    expect(run({ own: stopped, pods: [works] })).toMatchObject({ running: true, health: "stopping" });
    expect(run({ own: stopped, pods: [ended(75)] })).toMatchObject({ running: false, health: "stopped", exitCode: 75 });
    expect(run({ own: stopped })).toMatchObject({ running: false, health: "stopped", exitCode: undefined });
  });

  test("has ended as its pods did", () => {
    expect(run({ ended: "completed", pods: [ended(0)] })).toMatchObject({ running: false, exitCode: 0 });
    expect(run({ ended: "failed", pods: [ended(0), ended(4)] })).toMatchObject({
      running: false,
      exitCode: 4,
      health: "exited (4)",
    });
    expect(run({ ended: "failed" })).toMatchObject({ running: false, exitCode: undefined });
  });

  test("between two tries is in progress", () => {
    expect(run({ pods: [ended(137)] })).toMatchObject({ running: true, reachable: false, restarts: 1 });
  });
});

describe("a service", () => {
  test("is healthy where its pod is ready, and reachable while it runs", () => {
    expect(deploymentState([works])).toMatchObject({ reachable: true, health: "healthy" });
    const slow = pod("slow", "Running", { running: {} });
    const notReady = { ...slow, status: { ...slow.status, conditions: [{ type: "Ready", status: "False" }] } };
    expect(deploymentState([notReady])).toMatchObject({ reachable: true, health: "unhealthy" });
    expect(deploymentState([unplaced])).toMatchObject({ running: true, reachable: false, health: "starting" });
    const crashed = pod("crashed", "Running", { waiting: { reason: "CrashLoopBackOff" } });
    const down = { ...crashed, status: { ...crashed.status, conditions: [{ type: "Ready", status: "False" }] } };
    expect(deploymentState([down])).toMatchObject({ reachable: false, health: "restarting" });
  });

  test("on each node is well where every node has it, be it none", () => {
    const set = (wanted: number, ready: number) => ({
      status: {
        desiredNumberScheduled: wanted,
        numberReady: ready,
        currentNumberScheduled: wanted,
        numberMisscheduled: 0,
      },
    });
    expect(daemonSetState(set(0, 0), [])).toMatchObject({ health: "healthy", reachable: false });
    expect(daemonSetState(set(2, 2), [works, works])).toMatchObject({ health: "healthy", reachable: true });
    expect(daemonSetState(set(2, 1), [works])).toMatchObject({ health: "unhealthy", lastCheck: "on 1 of 2 nodes" });
  });

  test("that the clock starts is well where its last jobs ended well", () => {
    const cronJob = { metadata: { name: "snapshot" }, spec: { schedule: "7 * * * *", jobTemplate: {} } };
    const job = (hour: number, type: string) => ({
      metadata: {
        creationTimestamp: new Date(Date.UTC(2026, 10, 29, hour)),
        ownerReferences: [{ name: "snapshot", uid: "1", apiVersion: "batch/v1", kind: "CronJob" }],
      },
      status: { conditions: [{ type, status: "True", message: "it failed" }] },
    });
    expect(cronState([cronJob], [])).toMatchObject({ health: "healthy", reachable: true });
    expect(cronState([cronJob], [job(1, "Failed"), job(2, "Complete")])).toMatchObject({ health: "healthy" });
    expect(cronState([cronJob], [job(1, "Complete"), job(2, "Failed")])).toMatchObject({
      health: "unhealthy",
      lastCheck: "snapshot: it failed",
    });
    expect(cronState([{ ...cronJob, spec: { ...cronJob.spec, suspend: true } }], [])).toMatchObject({
      health: "suspended",
    });
    expect(cronState([], [])).toMatchObject({ exists: false, health: "missing" });
  });
});
