import { z } from "zod";

const condition = z.object({
  type: z.string(),
  status: z.string(),
  reason: z.string().optional(),
  message: z.string().optional(),
});

/** Kueue's view of something that waits for quota or has it: https://kueue.sigs.k8s.io/docs/reference/kueue.v1beta2. */
export const workloadSchema = z.object({
  metadata: z.object({
    name: z.string(),
    creationTimestamp: z.coerce.date(),
    ownerReferences: z.array(z.object({ uid: z.string(), name: z.string().optional() })).default([]),
  }),
  spec: z.object({
    active: z.boolean().default(true),
    priority: z.number().default(0),
    queueName: z.string().optional(),
  }),
  status: z
    .object({
      conditions: z.array(condition).default([]),
      admission: z
        .object({ podSetAssignments: z.array(z.object({ flavors: z.record(z.string(), z.string()).default({}) })) })
        .optional(),
    })
    .default({ conditions: [] }),
});
export type QueuedWorkload = z.output<typeof workloadSchema>;

/** The object of Kueue's that belongs to this one. */
export function workloadOf(all: readonly QueuedWorkload[], uid: string | undefined): QueuedWorkload | undefined {
  return all.find(({ metadata }) => metadata.ownerReferences.some((owner) => owner.uid === uid));
}

function holds({ status }: QueuedWorkload, type: string): boolean {
  return status.conditions.some((one) => one.type === type && one.status === "True");
}

/** Whether it waits for quota; what is stopped or has ended waits for none. */
export function isPending(workload: QueuedWorkload): boolean {
  return workload.spec.active && !holds(workload, "QuotaReserved") && !holds(workload, "Finished");
}

/** Whether it waits or has its place: neither stopped nor at its end. */
export function isLive(workload: QueuedWorkload): boolean {
  return workload.spec.active && !holds(workload, "Finished");
}

/** What waits, in the order in which Kueue admits it where it fits: by priority, then by age. */
function inOrder(all: readonly QueuedWorkload[]): readonly QueuedWorkload[] {
  return all
    .filter(isPending)
    .sort(
      (a, b) =>
        b.spec.priority - a.spec.priority ||
        a.metadata.creationTimestamp.getTime() - b.metadata.creationTimestamp.getTime(),
    );
}

/** Where something stands in its queue and what it needs, for people; undefined where it does not wait. */
export function queueText(all: readonly QueuedWorkload[], own: QueuedWorkload): string | undefined {
  if (!isPending(own)) return undefined;
  const order = inOrder(all.filter(({ spec }) => spec.queueName === own.spec.queueName));
  const position = order.findIndex(({ metadata }) => metadata.name === own.metadata.name) + 1;
  const why = own.status.conditions.find(({ type, status }) => type === "QuotaReserved" && status === "False")?.message;
  const taken = own.status.conditions.find(({ type, status }) => type === "Evicted" && status === "True");
  return [
    `waits in the queue, position ${position} of ${order.length}`,
    taken?.reason === "Preempted" ? "another of a higher priority took its place" : undefined,
    why === undefined || why === "" ? undefined : shortened(why),
  ]
    .filter((part) => part !== undefined)
    .join("; ");
}

/** Kueue's reasons repeat themselves for each flavor; the first says it. */
function shortened(reason: string): string {
  const [first = "", ...more] = reason.split(/, (?=insufficient|couldn't)/);
  return `${first}${more.length > 0 ? ", …" : ""}`;
}

/** The flavor by whose quota it runs. Example: `tunestack-team-l4-spot`. */
export function flavorOf(workload: QueuedWorkload | undefined): string | undefined {
  return Object.values(workload?.status.admission?.podSetAssignments[0]?.flavors ?? {})[0];
}
