import { runCommand } from "./lib/errors.ts";
import { parseCommand } from "./lib/options.ts";
import { bringUpProfiles } from "./lib/profile-command.ts";

const SPEC = {
  name: "train-dev",
  summary: "Brings up Jupyter, TensorBoard and the W&B server (profile dev).",
} as const;

await runCommand(async () => await bringUpProfiles(parseCommand(SPEC).stack, ["dev"]));
