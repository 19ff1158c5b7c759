import type { Stack } from "@pulumi/pulumi/automation/index.js";
import { engineSettings } from "../../../stacks/settings/engine.ts";
import { hasTarget, type StackInputs } from "../../../stacks/settings/load.ts";
import { engineClient } from "../../../stacks/targets/docker/engine.ts";
import { readDeployment } from "../file-backend.ts";
import { namingOf } from "../naming.ts";
import { explaining } from "../stack.ts";
import type { Report } from "../steps.ts";
import { clearStaleLock, isHeld, readLocks } from "./locks.ts";
import { findMissing, findOrphans, readThings, removeOrphans } from "./orphans.ts";
import { knownState, withoutPending } from "./state.ts";

/** What mending asks of a stack. */
export type Mendable = Pick<Stack, "name" | "cancel" | "exportStack" | "importStack" | "refresh">;

/**
 * Mends what a `pulumi up` that was killed at any moment left behind: its lock, containers that the state does not know,
 * operations that never ended, and things that the state knows and the engine lost. For use before `pulumi up`. Does
 * nothing while another command is at work on the stack.
 * @returns what was mended, for people; empty where all was well.
 */
export async function mendStack(stack: Mendable, inputs: StackInputs, report: Report): Promise<readonly string[]> {
  return await explaining(stack.name, () => mend(stack, inputs, report));
}

async function mend(stack: Mendable, inputs: StackInputs, report: Report): Promise<readonly string[]> {
  const locks = readLocks(stack.name);
  // A backend elsewhere does not show who is at work, whose new containers would look like left-overs.
  if (locks === undefined || isHeld(locks)) return [];
  const cleared = await clearStaleLock(stack);
  const mended = cleared.map(({ pid }) => `took away the lock of process ${pid}, which is no more`);
  // What another target lost is in a cloud, which Pulumi asks by itself.
  return hasTarget(inputs, "docker") ? [...mended, ...(await mendState(stack, inputs, report))] : mended;
}

async function mendState(stack: Mendable, inputs: StackInputs, report: Report): Promise<readonly string[]> {
  const client = engineClient(engineSettings(inputs).host);
  const state = knownState(readDeployment(stack.name) ?? (await stack.exportStack()));
  const found = await readThings(client);
  const orphans = findOrphans(found, namingOf(inputs), state);
  const mended: string[] = [];
  if (orphans.length > 0) {
    report(`removing ${orphans.map(({ name }) => name).join(", ")}`);
    const removed = await removeOrphans(client, orphans, inputs.settings.training.stopGrace);
    mended.push(...removed.map((name) => `removed ${name}, which an interrupted pulumi up had left`));
  }
  if (state.pending.length > 0) {
    await stack.importStack(withoutPending(await stack.exportStack()));
    mended.push(...state.pending.map((operation) => `forgot the interrupted operation: ${operation}`));
  }
  const missing = findMissing(found, state);
  if (missing.length > 0) {
    report("pulumi refresh");
    await stack.refresh({ suppressProgress: true });
    mended.push(`took ${countOf(missing)} that the engine has no more out of the state`);
  }
  return mended;
}

function countOf(missing: readonly string[]): string {
  return missing.length === 1 ? "one thing" : `${missing.length} things`;
}
