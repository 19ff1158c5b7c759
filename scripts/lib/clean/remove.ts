import type Docker from "dockerode";
import type { StackInputs } from "../../../stacks/settings/load.ts";
import type { Problem } from "../../../stacks/settings/problems.ts";
import { formatBytes } from "../../../stacks/settings/units.ts";
import { mendStack } from "../doctor/mend.ts";
import { removeOrphans } from "../doctor/orphans.ts";
import { EXIT, UserError } from "../errors.ts";
import { namingOf } from "../naming.ts";
import { isSetUp, openStack, takeDown } from "../stack.ts";
import { step } from "../steps.ts";
import { type Inventory, inventoryOf, readListing } from "./inventory.ts";
import type { Removal } from "./removal.ts";

/**
 * Takes the stack down and removes what it leaves on the engine. What is gone already is no obstacle.
 * @throws UserError with what could not be removed, after all the rest was.
 */
export async function removeEverything(client: Docker, inputs: StackInputs, removal: Removal): Promise<void> {
  await destroyStack(inputs);
  const left = inventoryOf(await readListing(client), inputs.stack, namingOf(inputs));
  await removeLeft(client, left, inputs.settings.training.stopGrace);
  const problems = await removeVolumes(client, removal);
  if (problems.length > 0) throw new UserError(problems, EXIT.machine, "machine");
}

/** Takes the stack down as far as the clone knows it. */
export async function destroyStack(inputs: StackInputs): Promise<void> {
  if (!isSetUp()) return;
  const stack = await openStack(inputs.stack);
  await step("pulumi destroy", async (report) => {
    await mendStack(stack, inputs, report);
    const deleted = await takeDown(stack, report);
    return { said: deleted === 0 ? "nothing was up" : `${deleted} resources`, value: undefined };
  });
}

/** Containers and networks that the state did not know, and the images, which Pulumi leaves to the engine. */
async function removeLeft(client: Docker, left: Inventory, stopGrace: number): Promise<void> {
  await removeOrphans(client, [...left.containers, ...left.networks.filter(({ inUse }) => !inUse)], stopGrace);
  if (left.images.length === 0) return;
  await step("images", async () => {
    for (const { tag } of left.images) await client.getImage(tag).remove({ force: true }).catch(ignoreGone);
    return { said: `${left.images.length} removed`, value: undefined };
  });
}

async function removeVolumes(client: Docker, { removed }: Removal): Promise<readonly Problem[]> {
  const problems: Problem[] = [];
  for (const { name, bytes } of removed) {
    try {
      await client.getVolume(name).remove().catch(ignoreGone);
      await step(`volume ${name}`, async () => ({
        said: bytes === undefined ? "removed" : `removed, ${formatBytes(bytes)}`,
        value: undefined,
      }));
    } catch (error) {
      problems.push({
        path: `volume ${name}`,
        reason: `cannot be removed: ${error instanceof Error ? error.message : String(error)}`,
        remedy: `docker ps --all --filter volume=${name} shows who uses it`,
      });
    }
  }
  return problems;
}

function ignoreGone(error: unknown): void {
  if (!(error instanceof Error && "statusCode" in error && error.statusCode === 404)) throw error;
}
