import { engineSettings } from "../stacks/settings/engine.ts";
import { engineClient } from "../stacks/targets/docker/engine.ts";
import { machineError, runCommand } from "./lib/errors.ts";
import { dockerSize, type LayerStep, partsOf, readSteps, STAGES, togetherBytes } from "./lib/image-layers.ts";
import { parseCommand } from "./lib/options.ts";
import { readInputs } from "./lib/stack.ts";
import { formatTable } from "./lib/table.ts";

const SPEC = {
  name: "image-size",
  summary: "Prints the size of each stage of the image: base, packages and our own code, as `docker images` counts.",
  json: true,
} as const;

interface StageSize {
  readonly stage: string;
  readonly image: string;
  readonly steps: readonly LayerStep[];
}

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const engine = engineSettings(readInputs(options.stack));
  const client = engineClient(engine.host);
  const found: StageSize[] = [];
  for (const stage of STAGES) {
    const image = `tunestack/${engine.prefix}${stage}:${options.stack}`;
    const steps = await readSteps(client, image);
    if (steps !== undefined) found.push({ stage, image, steps });
  }
  if (found.length === 0) {
    throw machineError({
      path: `stack ${options.stack}`,
      reason: "has no image on this engine",
      remedy: "npm start builds it",
    });
  }
  console.log(options.json ? asJson(found) : asTable(found));
});

function asTable(found: readonly StageSize[]): string {
  const rows = found.map(({ stage, steps }) => {
    const { base, packages, code } = partsOf(steps);
    return [stage, ...[base + packages + code, base, packages, code].map(dockerSize)];
  });
  const together = togetherBytes(found.map(({ steps }) => steps));
  return [
    formatTable(["STAGE", "SIZE", "BASE", "PACKAGES", "CODE"], rows),
    `together on disk: ${dockerSize(together)}, since stages share layers`,
  ].join("\n");
}

function asJson(found: readonly StageSize[]): string {
  const stages = found.map(({ stage, image, steps }) => {
    const parts = partsOf(steps);
    return { stage, image, bytes: parts.base + parts.packages + parts.code, ...parts };
  });
  return JSON.stringify({ stages, together_bytes: togetherBytes(found.map(({ steps }) => steps)) }, null, 2);
}
