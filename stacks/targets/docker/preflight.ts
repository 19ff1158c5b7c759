import type { Plan, RunPlan, Workload } from "../../plan/types.ts";
import type { Problem } from "../../settings/problems.ts";
import type { EngineState, FoundContainer } from "./engine.ts";
import { containerName, type Naming, specificationOf } from "./render.ts";

/** Ports of the machine that the plan wants. */
export function wantedPorts(plan: Plan): readonly number[] {
  return plan.services.flatMap(({ ports }) => ports.map(({ host }) => host));
}

/** What the engine already holds that would make `up` fail half-way, or would lose a run in progress. */
export function engineProblems(plan: Plan, naming: Naming, engine: EngineState): readonly Problem[] {
  const workloads = [...plan.services, ...(plan.run === undefined ? [] : [plan.run.workload])];
  return [
    ...workloads.flatMap((workload) => nameProblems(workload, naming, engine)),
    ...samePortTwice(plan),
    ...plan.services.flatMap((workload) => portProblems(workload, naming, engine)),
    ...(plan.run === undefined ? [] : runProblems(plan.run, naming, engine)),
  ];
}

/** Exit codes of a run that is done, or was stopped on request with a checkpoint saved. */
const ENDED_WELL: readonly (number | undefined)[] = [0, 75];

/**
 * The image that a run of these very settings already has. A new build of the image does not start it again: a finished
 * run stays finished, and one in progress goes on. One that failed is tried again with what was mended.
 */
export function imageOfSameRun(run: RunPlan, naming: Naming, engine: EngineState): string | undefined {
  const found = findRun(run, naming, engine);
  if (found?.specification !== specificationOf(run.workload)) return undefined;
  return found.running || ENDED_WELL.includes(found.exitCode) ? found.imageId : undefined;
}

function findRun({ workload }: RunPlan, naming: Naming, engine: EngineState): FoundContainer | undefined {
  const name = containerName(naming, workload.name);
  return engine.containers.find((container) => container.name === name && container.owner === naming.owner);
}

function nameProblems(workload: Workload, naming: Naming, engine: EngineState): readonly Problem[] {
  const name = containerName(naming, workload.name);
  const found = engine.containers.find((container) => container.name === name);
  if (found === undefined || found.owner === naming.owner) return [];
  return [
    {
      path: `container ${name}`,
      value: found.id.slice(0, 12),
      reason:
        found.owner === undefined
          ? "the name is taken by a container that is not tunestack's"
          : `the name is taken by the stack ${found.owner}`,
      remedy: `set docker.prefix, such as docker.prefix: second-, or remove that container: docker rm --force ${name}`,
    },
  ];
}

function samePortTwice(plan: Plan): readonly Problem[] {
  const seen = new Map<number, string>();
  const problems: Problem[] = [];
  for (const { name, ports } of plan.services) {
    for (const { host } of ports) {
      const other = seen.get(host);
      if (other !== undefined) {
        problems.push({
          path: `services.${name}.port`,
          value: String(host),
          reason: `is the port of services.${other} too`,
          remedy: "give each service a port of its own",
        });
      }
      seen.set(host, name);
    }
  }
  return problems;
}

function portProblems(workload: Workload, naming: Naming, engine: EngineState): readonly Problem[] {
  const own = containerName(naming, workload.name);
  return workload.ports.flatMap(({ host }): Problem[] => {
    const holder = engine.containers.find(({ hostPorts }) => hostPorts.includes(host));
    // A port that moves from one of our services to another is free by the time that it is bound.
    if (holder?.owner === naming.owner) return [];
    const taken =
      holder !== undefined
        ? `the container ${holder.name}`
        : engine.takenPorts.includes(host)
          ? "another program"
          : undefined;
    if (taken === undefined || holder?.name === own) return [];
    return [
      {
        path: `services.${workload.name}.port`,
        value: String(host),
        reason: `is in use by ${taken}`,
        remedy: `stop it, or choose another: npx pulumi config set --path 'tunestack:services.${workload.name}.port' ${host + 1}`,
      },
    ];
  });
}

function runProblems(run: RunPlan, naming: Naming, engine: EngineState): readonly Problem[] {
  const found = findRun(run, naming, engine);
  if (found === undefined || !found.running || run.replaceRunning) return [];
  if (found.specification === specificationOf(run.workload)) return [];
  return [
    {
      path: "training",
      value: run.run,
      reason: `the run ${found.run ?? "?"} is in progress and would be replaced`,
      remedy: "stop it first: npm run train-stop (it saves a checkpoint); or set training.replaceRunning: true",
    },
  ];
}
