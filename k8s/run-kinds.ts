import { z } from "zod";

const podTemplate = z.looseObject({
  metadata: z.looseObject({ labels: z.record(z.string(), z.string()).optional() }).optional(),
  spec: z.looseObject({
    containers: z.array(z.looseObject({ name: z.string(), image: z.string().optional() })).min(1),
  }),
});
/** The pods of a run as its object describes them. */
export type RunTemplate = z.output<typeof podTemplate>;

/** How a run's object is read, whatever runs it. What is alike in all kinds is Kueue's. */
export interface RunKind {
  readonly apiVersion: string;
  readonly kind: string;
  /** How it ended for good; undefined while it has not. */
  readonly ended: (object: unknown) => "completed" | "failed" | undefined;
  /** The object that describes the pods, where it is another one than the run's own. */
  readonly describedBy?: (object: unknown) => ObjectName;
  /** Of the object that describes the pods. */
  readonly template: (object: unknown) => RunTemplate | undefined;
}

/** What names an object of the run's namespace. */
export interface ObjectName {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
}

const jobSetSpec = z.object({
  replicatedJobs: z.array(z.object({ template: z.object({ spec: z.object({ template: podTemplate }) }) })).min(1),
});
const jobSet = z.object({
  spec: jobSetSpec,
  status: z.object({ terminalState: z.string().optional() }).optional(),
});

const JOBSET: RunKind = {
  apiVersion: "jobset.x-k8s.io/v1alpha2",
  kind: "JobSet",
  ended: (object) => {
    switch (jobSet.parse(object).status?.terminalState) {
      case "Completed":
        return "completed";
      case "Failed":
        return "failed";
      default:
        return undefined;
    }
  },
  template: (object) => jobSet.parse(object).spec.replicatedJobs[0]?.template.spec.template,
};

const TRAINER = "trainer.kubeflow.org/v1alpha1";
const trainJob = z.object({
  spec: z.object({ runtimeRef: z.object({ name: z.string() }) }),
  status: z
    .object({ conditions: z.array(z.object({ type: z.string(), status: z.string() })).default([]) })
    .default({ conditions: [] }),
});
const trainingRuntime = z.object({ spec: z.object({ template: z.object({ spec: jobSetSpec }) }) });

const TRAIN_JOB: RunKind = {
  apiVersion: TRAINER,
  kind: "TrainJob",
  ended: (object) => {
    const { conditions } = trainJob.parse(object).status;
    const holds = (wanted: string) => conditions.some(({ type, status }) => type === wanted && status === "True");
    if (holds("Complete")) return "completed";
    return holds("Failed") ? "failed" : undefined;
  },
  describedBy: (object) => ({
    apiVersion: TRAINER,
    kind: "TrainingRuntime",
    name: trainJob.parse(object).spec.runtimeRef.name,
  }),
  template: (object) => trainingRuntime.parse(object).spec.template.spec.replicatedJobs[0]?.template.spec.template,
};

/** Every kind that a run can be of. A TrainJob comes first: its JobSet has its name, and is not what Kueue queues. */
export const RUN_KINDS: readonly RunKind[] = [TRAIN_JOB, JOBSET];

/**
 * The run's pods as its object, or the one that it names, describes them.
 * @param read gives undefined where there is no such object.
 */
export async function readTemplate(
  kind: RunKind,
  object: unknown,
  read: (name: ObjectName) => Promise<unknown>,
): Promise<RunTemplate | undefined> {
  const other = kind.describedBy?.(object);
  const described = other === undefined ? object : await read(other);
  return described === undefined ? undefined : kind.template(described);
}
