import type { Deployment } from "@pulumi/pulumi/automation/index.js";
import { z } from "zod";

const deploymentSchema = z.object({
  resources: z.array(z.object({ type: z.string(), urn: z.string(), id: z.string().optional() })).nullish(),
  pending_operations: z.array(z.object({ type: z.string(), resource: z.object({ urn: z.string() }) })).nullish(),
});

/** What Pulumi's state knows to be on the engine, and what was under way when an `up` was killed. */
export interface KnownState {
  /** Ids of containers and networks. */
  readonly containers: ReadonlySet<string>;
  readonly networks: ReadonlySet<string>;
  /** Operations that never ended, for people. Example: `creating tunestack-jupyter`. */
  readonly pending: readonly string[];
}

const CONTAINER = "docker:index/container:Container";
const NETWORK = "docker:index/network:Network";

/** Reads an exported state; one of a stack that was never brought up knows nothing. */
export function knownState(state: Deployment): KnownState {
  const deployment = deploymentSchema.safeParse(state.deployment ?? {});
  const { resources, pending_operations } = deployment.success ? deployment.data : {};
  const idsOf = (type: string) =>
    new Set((resources ?? []).flatMap((resource) => (resource.type === type && resource.id ? [resource.id] : [])));
  return {
    containers: idsOf(CONTAINER),
    networks: idsOf(NETWORK),
    pending: (pending_operations ?? []).map(({ type, resource }) => `${type} ${resource.urn.split("::").at(-1)}`),
  };
}

/** The state without operations that never ended: what they left on the engine has been dealt with. */
export function withoutPending(state: Deployment): Deployment {
  return { ...state, deployment: { ...state.deployment, pending_operations: [] } };
}
