import { runCommand } from "./lib/errors.ts";
import { parseCommand } from "./lib/options.ts";
import { bringUpProfiles } from "./lib/profile-command.ts";

const SPEC = { name: "train-monitor", summary: "Brings up the profiles training, dev and monitor together." } as const;

await runCommand(async () => await bringUpProfiles(parseCommand(SPEC).stack, ["training", "dev", "monitor"]));
