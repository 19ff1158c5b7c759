import { setTimeout as sleep } from "node:timers/promises";
import type { StackOutputs } from "../../stacks/outputs.ts";
import { step } from "./steps.ts";
import type { Workloads } from "./workloads.ts";

const POLL_MS = 1000;
const PATIENCE_MS = 180_000;

/** Waits until every service is healthy. One that is not stands in the table as it is: the others are of use without it. */
export async function waitForServices(workloads: Workloads, outputs: StackOutputs): Promise<void> {
  await step("services", async (report) => {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const states = await Promise.all(
        outputs.services.map(async ({ name, container }) => ({ name, state: await workloads.state(container) })),
      );
      const waiting = states.filter(({ state }) => state.health !== "healthy");
      if (waiting.length === 0) return { said: `${states.length} healthy`, value: undefined };
      const names = waiting.map(({ name, state }) => `${name} ${state.health}`).join(", ");
      if (Date.now() > deadline) return { said: `not healthy: ${names}`, value: undefined };
      report(names);
      await sleep(POLL_MS);
    }
  });
}
