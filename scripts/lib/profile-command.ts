import type { Profile } from "../../stacks/settings/schema.ts";
import { openWorkloads } from "./open-workloads.ts";
import { formatOverview, readOverview } from "./overview.ts";
import { setPersonal } from "./personal.ts";
import { setUp } from "./setup/setup.ts";
import { isSetUp, openStack, readInputs, readOutputs } from "./stack.ts";
import { up, withProfiles } from "./train.ts";
import { waitForServices } from "./wait.ts";

/** Brings profiles up beside what is up already: a run in progress is never taken down by asking for more. */
export async function bringUpProfiles(stack: string, wanted: readonly Profile[]): Promise<void> {
  const inputs = readInputs(stack);
  const fresh = !isSetUp() || (await readOutputs(await openStack(stack))) === undefined;
  await setUp(stack);
  setPersonal(stack, { profiles: fresh ? wanted : withProfiles(inputs, wanted) });
  const outputs = await up(stack);
  const workloads = await openWorkloads(outputs);
  await waitForServices(workloads, outputs);
  console.log(`\n${formatOverview(await readOverview(workloads, outputs))}`);
}
