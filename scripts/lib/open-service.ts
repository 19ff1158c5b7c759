import type { StackOutputs } from "../../stacks/outputs.ts";
import { EXIT, UserError, usageError } from "./errors.ts";
import { freePort } from "./free-port.ts";
import type { Reached, Workloads } from "./workloads.ts";

export interface Opening {
  /** Name of the service. Example: `jupyter`. */
  readonly service: string;
  /** Port of this machine for a tunnel; undefined takes the service's own, or a free one. */
  readonly port: number | undefined;
}

/**
 * Makes a service's page reachable from this machine.
 * @throws UserError where the stack has no such service, it has no page, or does not run.
 */
export async function openService(
  workloads: Pick<Workloads, "state" | "reach">,
  { services, leftOut }: Pick<StackOutputs, "services" | "leftOut">,
  { service: wanted, port }: Opening,
): Promise<Reached> {
  const pages = services.flatMap(({ name, container, url }) => (url === undefined ? [] : [{ name, container, url }]));
  const found = pages.find(({ name }) => name === wanted);
  if (found === undefined) {
    const known = services.some(({ name }) => name === wanted);
    const left = leftOut.find(({ service }) => service === wanted);
    throw usageError({
      path: "SERVICE",
      value: wanted,
      reason: known
        ? "has no page"
        : left === undefined
          ? "is no service of this stack"
          : `is left out: ${left.reason}`,
      remedy:
        pages.length === 0
          ? "npm run train-dev brings some up"
          : `use one of: ${pages.map(({ name }) => name).join(", ")}`,
    });
  }
  const { reachable, health } = await workloads.state(found.container);
  if (!reachable) {
    throw new UserError(
      [
        {
          path: `service ${wanted}`,
          value: health,
          reason: "does not run",
          remedy: `npm run train-logs -- ${wanted} shows what it said last`,
        },
      ],
      EXIT.machine,
      "stack",
    );
  }
  return await workloads.reach(found, port ?? (await freePort(Number(new URL(found.url).port))));
}
