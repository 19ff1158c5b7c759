import type { LeftOut, Workload } from "../../../stacks/plan/types.ts";
import type { EngineState } from "../../../stacks/targets/docker/engine.ts";
import type { ContainerState } from "../workloads.ts";
import { type Check, fail, ok, warn } from "./check.ts";
import type { FoundThing } from "./orphans.ts";

/** Ports that the stack's services want, and who else holds them. */
export function portChecks(
  services: readonly Pick<Workload, "name" | "ports">[],
  owner: string,
  engine: EngineState,
): readonly Check[] {
  const wanted = services.flatMap(({ name, ports }) => ports.map(({ host }) => ({ name, host })));
  const taken = wanted.flatMap(({ name, host }): Check[] => {
    const holder = engine.containers.find(({ hostPorts }) => hostPorts.includes(host));
    if (holder?.owner === owner) return [];
    const by =
      holder !== undefined
        ? `the container ${holder.name}`
        : engine.takenPorts.includes(host)
          ? "another program"
          : undefined;
    if (by === undefined) return [];
    return [
      fail(
        `port ${host}`,
        `of ${name} is in use by ${by}`,
        `stop it, or choose another: npx pulumi config set --path tunestack:services.${name}.port ${host + 1}`,
      ),
    ];
  });
  if (taken.length > 0 || wanted.length === 0) return taken;
  return [ok("ports", `${wanted.map(({ host }) => host).join(", ")} are free or this stack's`)];
}

export function orphanCheck(orphans: readonly FoundThing[], missing: readonly string[]): Check {
  const name = "left-overs";
  if (orphans.length > 0) {
    const names = orphans.map((orphan) => orphan.name).join(", ");
    return fail(
      name,
      `made by an interrupted pulumi up: ${names}`,
      "npm run doctor -- --fix removes them; they hold no data",
      "state",
    );
  }
  if (missing.length > 0) {
    return fail(
      name,
      `gone from the engine: ${missing.length} of the stack`,
      "npm run doctor -- --fix, then npm start",
      "state",
    );
  }
  return ok(name, "none");
}

export function leftOutCheck({ service, reason }: LeftOut): Check {
  return reason.endsWith("enabled is false")
    ? ok(service, `left out: ${reason}`)
    : warn(service, `left out: ${reason}`, "the rest works without it; npm start brings it where its image can be had");
}

/** A service's health, with what its last check said where it is not well. */
export function serviceCheck(service: string, state: ContainerState): Check {
  const logs = `npm run train-logs -- ${service}`;
  const last =
    state.lastCheck === undefined || state.lastCheck === ""
      ? ""
      : `: ${state.lastCheck.split("\n").slice(-2).join(" ")}`;
  switch (state.health) {
    case "healthy":
      return ok(service, state.restarts === 0 ? "healthy" : `healthy, restarted ${state.restarts} times`);
    case "running":
    case "starting":
      return warn(service, `${state.health}${last}`, `wait a little; ${logs}`);
    case "missing":
      return fail(service, "its container is gone", "npm start brings it back", "state");
    default:
      // What the last check said is of no use once the container has ended.
      return fail(
        service,
        state.health === "unhealthy" ? `unhealthy${last}` : state.health,
        `npm run doctor -- --fix restarts it; ${logs}`,
        "services",
      );
  }
}
