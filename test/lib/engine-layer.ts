import { DEFAULT_STACK } from "../../scripts/lib/project.ts";
import { setUp } from "../../scripts/lib/setup/setup.ts";
import type { Layer } from "./layers.ts";
import { vitestSuite } from "./vitest-suite.ts";

/** Real stacks by the real Pulumi engine on the real Docker engine. */
export const ENGINE_LAYER: Layer = {
  name: "engine",
  headline: "stacks, runs, backups and stand-ins on the real Pulumi and Docker engines",
  run: async (record) => {
    await setUp(DEFAULT_STACK);
    record(await vitestSuite("engine", { follow: true }));
  },
};
