import { runCommand } from "./lib/errors.ts";
import { parseCommand } from "./lib/options.ts";
import { setUp } from "./lib/setup/setup.ts";
import { bringUp, openStack } from "./lib/stack.ts";
import { step } from "./lib/steps.ts";

const SPEC = {
  name: "start",
  summary: "Sets up what is missing, brings the stack up, and runs its first fine-tune.",
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  await setUp(options.stack);
  const stack = await step("stack", async () => ({ said: options.stack, value: await openStack(options.stack) }));
  await step("pulumi up", async (report) => {
    const { changes } = await bringUp(stack, report);
    return { said: JSON.stringify(changes), value: undefined };
  });
});
