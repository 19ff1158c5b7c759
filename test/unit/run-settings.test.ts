import { expect, test } from "vitest";
import { runSettingsSchema } from "../../stacks/settings/run-settings.ts";

const GOOD: readonly [string, unknown][] = [
  ["max_steps", 200],
  ["max_steps", "200"],
  ["learning_rate", 1e-4],
  ["learning_rate", "1e-4"],
  ["packing", true],
  ["packing", "Yes"],
  ["packing", 0],
  ["precision", "bf16"],
  ["lora_target_modules", "q_proj,v_proj"],
  ["dataloader_workers", 2],
];

const BAD: readonly [string, unknown, string][] = [
  ["max_steps", 1.5, "is not a whole number"],
  ["max_steps", "many", "is not a whole number"],
  ["max_steps", true, "is not a whole number"],
  ["max_steps", -1, "is less than 0"],
  ["seed", 2 ** 32, "is more than 4294967295"],
  ["learning_rate", 0, "is not above 0"],
  ["learning_rate", "fast", "is not a number"],
  ["learning_rate", "", "is not a number"],
  ["packing", "maybe", "is neither true nor false"],
  ["precision", "int8", "is not one of the choices"],
  ["lora_target_modules", "q_proj,", "cannot be used here"],
  ["wandb_project", "two words", "cannot be used here"],
];

test.each(GOOD)("%s may be %j, and stays as it was given", (name, value) => {
  expect(runSettingsSchema.parse({ [name]: value })).toEqual({ [name]: value });
});

test.each(BAD)("%s may not be %j: it %s", (name, value, reason) => {
  const { error } = runSettingsSchema.safeParse({ [name]: value });
  expect(error?.issues).toMatchObject([{ path: [name], message: reason }]);
});

test("every wrong setting is told at once", () => {
  const { error } = runSettingsSchema.safeParse({ max_steps: -1, lora_r: 0, packing: "maybe", speed: 1 });
  expect(error?.issues).toHaveLength(4);
});
