import { runPreset } from "./lib/preset-command.ts";

await runPreset("gemma-2b");
