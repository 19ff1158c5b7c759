import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  isPending,
  type QueuedWorkload,
  queueText,
  workloadOf,
  workloadSchema,
} from "../../scripts/lib/cluster/queue.ts";

function workload(name: string, changes: object = {}, conditions: readonly object[] = []): QueuedWorkload {
  return workloadSchema.parse({
    metadata: {
      name,
      creationTimestamp: "2026-11-29T10:00:00Z",
      ownerReferences: [{ uid: `uid-${name}` }],
      ...changes,
    },
    spec: { queueName: "runs", priority: 1000, ...changes },
    status: { conditions },
  });
}

const at = (minute: number) => ({ creationTimestamp: `2026-11-29T10:${String(minute).padStart(2, "0")}:00Z` });

describe("the place in the queue", () => {
  test("is by priority, then by age, and counts what waits alone", () => {
    const own = workload("own", at(5));
    const all = [
      workload("older", at(1)),
      workload("younger", at(9)),
      workload("urgent", { ...at(20), priority: 10000 }),
      workload("runs-already", at(0), [{ type: "QuotaReserved", status: "True" }]),
      workload("done", at(0), [{ type: "Finished", status: "True" }]),
      workload("stopped", { ...at(0), active: false }),
      workload("elsewhere", { ...at(0), queueName: "others" }),
      own,
    ];
    expect(queueText(all, own)).toBe("waits in the queue, position 3 of 4");
  });

  test("tells Kueue's reason, once, and that another took the place", () => {
    const message =
      "couldn't assign flavors to pod set node: insufficient unused quota for nvidia.com/gpu in flavor l4-spot, 1 more needed, insufficient unused quota for cpu in flavor l4, 4 more needed";
    const own = workload("own", {}, [
      { type: "QuotaReserved", status: "False", reason: "Pending", message },
      { type: "Evicted", status: "True", reason: "Preempted" },
    ]);
    expect(queueText([own], own)).toBe(
      "waits in the queue, position 1 of 1; another of a higher priority took its place; couldn't assign flavors to pod set node: insufficient unused quota for nvidia.com/gpu in flavor l4-spot, 1 more needed, …",
    );
  });

  test.each([
    ["is admitted", workload("own", {}, [{ type: "QuotaReserved", status: "True" }])],
    ["is stopped", workload("own", { active: false })],
    ["has ended", workload("own", {}, [{ type: "Finished", status: "True" }])],
  ])("is none for what %s", (_what, own) => {
    expect(isPending(own)).toBe(false);
    expect(queueText([own], own)).toBeUndefined();
  });

  test("gives everything that waits a place of its own", () => {
    const waiting = fc.array(fc.record({ priority: fc.integer({ min: 0, max: 3 }), minute: fc.nat(59) }), {
      minLength: 1,
    });
    fc.assert(
      fc.property(waiting, (entries) => {
        const all = entries.map(({ priority, minute }, index) => workload(`w${index}`, { ...at(minute), priority }));
        const places = all.map((one) => /position (\d+) of/.exec(queueText(all, one) ?? "")?.[1]).map(Number);
        expect([...places].sort((a, b) => a - b)).toEqual(all.map((_, index) => index + 1));
      }),
    );
  });
});

test("an object's workload is the one that it owns", () => {
  const all = [workload("a"), workload("b")];
  expect(workloadOf(all, "uid-b")?.metadata.name).toBe("b");
  expect(workloadOf(all, "uid-c")).toBeUndefined();
  expect(workloadOf(all, undefined)).toBeUndefined();
});
