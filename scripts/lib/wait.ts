import { setTimeout as sleep } from "node:timers/promises";
import type { ServiceOutput, StackOutputs } from "../../stacks/outputs.ts";
import { step } from "./steps.ts";
import type { ContainerState, Workloads } from "./workloads.ts";

const PATIENCE = { pollMs: 1000, limitMs: 180_000 };
/** A service that has ended as often is not waited for any longer: what is wrong with it does not pass by itself. */
const TRIES = 4;

type Asked = Pick<Workloads, "state" | "lastLines">;
type Service = Pick<ServiceOutput, "name" | "container">;
interface Seen extends Service {
  readonly state: ContainerState;
}

/**
 * Waits until every service is healthy. One that is not stands in the table as it is, and its last words are told: the
 * others are of use without it.
 */
export async function waitForServices(
  workloads: Asked,
  outputs: Pick<StackOutputs, "services">,
  { pollMs, limitMs } = PATIENCE,
): Promise<void> {
  const ill = await step("services", async (report) => {
    const deadline = Date.now() + limitMs;
    for (;;) {
      const waiting = await notHealthy(workloads, outputs.services);
      if (waiting.length === 0) return { said: `${outputs.services.length} healthy`, value: waiting };
      const names = waiting.map(({ name, state }) => `${name} ${state.health}`).join(", ");
      if (waiting.every(endsAgainAndAgain) || Date.now() > deadline)
        return { said: `not healthy: ${names}`, value: waiting };
      report(names);
      await sleep(pollMs);
    }
  });
  for (const { name, container } of ill) {
    const words = (await workloads.lastLines(container, 1).catch(() => "")).trim();
    if (words !== "") console.error(`  ${words.startsWith(name) ? words : `${name}: ${words}`}`);
  }
}

async function notHealthy(workloads: Asked, services: readonly Service[]): Promise<readonly Seen[]> {
  const seen = await Promise.all(
    services.map(async ({ name, container }) => ({ name, container, state: await workloads.state(container) })),
  );
  return seen.filter(({ state }) => state.health !== "healthy");
}

function endsAgainAndAgain({ state }: Seen): boolean {
  return !state.reachable && state.restarts >= TRIES;
}
