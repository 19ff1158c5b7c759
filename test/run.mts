import { CHECK_LAYER } from "./lib/check-layer.ts";
import { interruptChildren } from "./lib/children.ts";
import { CLUSTER_LAYER } from "./lib/cluster-layer.ts";
import { ENGINE_LAYER } from "./lib/engine-layer.ts";
import { runLayers } from "./lib/layers.ts";
import { PYTHON_LAYER } from "./lib/python-layer.ts";

/** In the order in which they run: what is quick comes first. */
const LAYERS = [CHECK_LAYER, PYTHON_LAYER, ENGINE_LAYER, CLUSTER_LAYER];

const HELP = [
  "npm test -- [LAYER…]",
  "",
  "Sets up what is missing and runs the layers that are named, or all of them.",
  "",
  ...LAYERS.map(({ name, headline }) => `  ${name.padEnd(8)}  ${headline}`),
  "",
  "npm run golden renews the golden files.",
].join("\n");

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, async () => {
    console.error(`\n${signal}: ending what runs`);
    await interruptChildren();
    process.exit(130);
  });
}

const names = process.argv.slice(2);
const unknown = names.filter((name) => !LAYERS.some((layer) => layer.name === name));
if (names.includes("--help") || names.includes("-h")) {
  console.log(HELP);
} else if (unknown.length > 0) {
  console.error(
    `npm test: ${unknown.join(", ")}: there is no such layer\n  → use one of: ${LAYERS.map(({ name }) => name).join(", ")}`,
  );
  process.exitCode = 2;
} else {
  const wanted = names.length === 0 ? LAYERS : LAYERS.filter(({ name }) => names.includes(name));
  process.exit(await runLayers(wanted, (text) => console.log(text)));
}
