import { engineSettings } from "../../../stacks/settings/engine.ts";
import type { StackInputs } from "../../../stacks/settings/load.ts";
import { containerName } from "../../../stacks/targets/docker/render.ts";
import { Containers } from "../containers.ts";
import { UserError } from "../errors.ts";
import { namingOf } from "../naming.ts";
import { setUp } from "../setup/setup.ts";
import { openStack } from "../stack.ts";
import { step } from "../steps.ts";
import type { Check, Fix } from "./check.ts";
import { clearStaleLock } from "./locks.ts";
import { mendStack } from "./mend.ts";

/** Set-up comes first: the others need what it brings. */
const ORDER: readonly Fix[] = ["set-up", "lock", "state", "services"];

/**
 * Mends what can be mended of what was found.
 * @returns what was done, for people.
 */
export async function mend(checks: readonly Check[], inputs: StackInputs): Promise<readonly string[]> {
  const wanted = ORDER.filter((fix) => checks.some((check) => check.status !== "ok" && check.fix === fix));
  const done: string[] = [];
  for (const fix of wanted) done.push(...(await attempt(fix, checks, inputs)));
  return done;
}

async function attempt(fix: Fix, checks: readonly Check[], inputs: StackInputs): Promise<readonly string[]> {
  try {
    return await apply(fix, checks, inputs);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(error.message);
    return [];
  }
}

async function apply(fix: Fix, checks: readonly Check[], inputs: StackInputs): Promise<readonly string[]> {
  switch (fix) {
    case "set-up":
      await setUp(inputs.stack);
      return ["went through set-up"];
    case "lock": {
      const cleared = await clearStaleLock(await openStack(inputs.stack));
      return cleared.map(({ pid }) => `took away the lock of process ${pid}, which is no more`);
    }
    case "state":
      return await step("left-overs", async (report) => {
        const value = await mendStack(await openStack(inputs.stack), inputs, report);
        return { said: value.length === 0 ? "nothing to mend" : `${value.length} mended`, value };
      });
    case "services":
      return await restartServices(checks, inputs);
  }
}

async function restartServices(checks: readonly Check[], inputs: StackInputs): Promise<readonly string[]> {
  const { host } = engineSettings(inputs);
  const { client } = new Containers(host === undefined ? {} : { engine: host });
  const services = Object.keys(inputs.settings.services) as (keyof typeof inputs.settings.services)[];
  const unwell = services.filter((name) => checks.some((check) => check.name === name && check.fix === "services"));
  for (const name of unwell) {
    await step(`restart ${name}`, async () => {
      await client.getContainer(containerName(namingOf(inputs), name)).restart();
      return { said: "done", value: undefined };
    });
  }
  return unwell.map((name) => `restarted ${name}`);
}
