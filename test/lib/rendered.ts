import { makePlan } from "../../stacks/plan/plan.ts";
import type { Workload, WorkloadName } from "../../stacks/plan/types.ts";
import { SECRET_NAMES } from "../../stacks/settings/load.ts";
import { PROFILES } from "../../stacks/settings/schema.ts";
import { type Naming, type Resolver, renderRun, renderService } from "../../stacks/targets/docker/render.ts";
import { type InputChanges, stackInputs } from "./inputs.ts";

export const NAMING: Naming = { prefix: "", owner: "dev@/project" };

/** Answers what is known only later with names that say what stands there. */
export const NAMES: Resolver = {
  image: (reference) => (reference.kind === "stage" ? `<image ${reference.stage}>` : reference.reference),
  volume: (name) => `<volume ${name}>`,
  variable: (name, value) => `${name}=${value}`,
};

/** Where the experiments of the tests would come from. */
export const QUEUE = "https://git.example/team/work.git";

export interface Rendered {
  readonly workload: Workload;
  /** The Docker provider's arguments as plain data. */
  readonly container: { readonly [key: string]: unknown };
}

/** Every container of a stack with all profiles and secrets, as the Docker target renders it. */
export function renderStack(changes: InputChanges = {}): ReadonlyMap<WorkloadName, Rendered> {
  const settings = { profiles: PROFILES, experiments: { repository: QUEUE }, ...changes.settings };
  const { services, run } = makePlan(stackInputs({ secrets: SECRET_NAMES, ...changes, settings }));
  const rendered = new Map<WorkloadName, Rendered>();
  const add = (workload: Workload, container: object) =>
    rendered.set(workload.name, { workload, container: JSON.parse(JSON.stringify(container)) });
  for (const workload of services) add(workload, renderService(workload, NAMING, NAMES));
  if (run !== undefined) add(run.workload, renderRun(run.workload, run.run, NAMING, NAMES));
  return rendered;
}
