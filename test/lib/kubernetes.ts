import { z } from "zod";
import type { ClusterLayout, Resolver } from "../../k8s/layout.ts";
import type { KubernetesObject, Rendered } from "../../k8s/objects.ts";
import { renderStack } from "../../k8s/render.ts";
import { makePlan } from "../../stacks/plan/plan.ts";
import type { Plan } from "../../stacks/plan/types.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { SECRET_NAMES } from "../../stacks/settings/load.ts";
import { PROFILES } from "../../stacks/settings/schema.ts";
import { clusterLayout } from "../../stacks/targets/kubernetes/layout.ts";
import { type InputChanges, kubernetesInputs } from "./inputs.ts";
import { QUEUE } from "./rendered.ts";

/** Answers what is known only later: digests that are none, and secrets that say whose they are. */
export const RESOLVED: Resolver = {
  image: (reference) =>
    reference.kind === "stage"
      ? `registry.example.com/ml/${reference.stage}@sha256:${"0".repeat(64)}`
      : reference.reference,
  secret: (file) => `<secret ${file.split("/").at(-1)}>`,
  files: () => new Map([["", Buffer.from('{"text": "an example"}\n')]]),
};

export interface ClusterChanges extends InputChanges {
  /** The block `kubernetes`, over the least that it needs. */
  readonly kubernetes?: RawSettings;
}

/** The objects of a stack with all profiles and all secrets, and what they were rendered from. */
export function renderCluster(changes: ClusterChanges = {}): {
  readonly plan: Plan;
  readonly layout: ClusterLayout;
  readonly rendered: readonly Rendered[];
  readonly objects: readonly KubernetesObject[];
} {
  const settings = { profiles: PROFILES, experiments: { repository: QUEUE }, ...changes.settings };
  const inputs = kubernetesInputs({ secrets: SECRET_NAMES, ...changes, settings });
  const plan = makePlan(inputs);
  const layout = clusterLayout(inputs);
  const rendered = renderStack(plan, layout, RESOLVED);
  return { plan, layout, rendered, objects: rendered.map(({ object }) => object) };
}

const templateSchema = z.looseObject({
  metadata: z.looseObject({ labels: z.record(z.string(), z.string()) }),
  spec: z.looseObject({ containers: z.array(z.looseObject({ name: z.string() })).min(1) }),
});
export type PodTemplate = z.output<typeof templateSchema>;

/** The pods of an object, of whatever kind it is: each thing within it that has containers. */
export function podTemplates(object: KubernetesObject): readonly PodTemplate[] {
  const found: PodTemplate[] = [];
  JSON.stringify(object, (_, value: unknown) => {
    const looksLikeOne = z.object({ spec: z.object({ containers: z.array(z.unknown()) }) }).safeParse(value).success;
    if (looksLikeOne) found.push(templateSchema.parse(value));
    return value;
  });
  return found;
}
