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
  readonly template: (object: unknown) => RunTemplate | undefined;
}

const jobSet = z.object({
  spec: z.object({
    replicatedJobs: z.array(z.object({ template: z.object({ spec: z.object({ template: podTemplate }) }) })).min(1),
  }),
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

/** Every kind that a run can be of. */
export const RUN_KINDS: readonly RunKind[] = [JOBSET];
