import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";

const EXAMPLES = join(PROJECT_DIR, "examples", "stacks");

const schema = z.strictObject({ config: z.record(z.string().startsWith("tunestack:"), z.unknown()) });

/** The example configurations by their targets. */
export const EXAMPLE_TARGETS: readonly string[] = readdirSync(EXAMPLES)
  .flatMap((file) => /^Pulumi\.(.+)\.yaml$/.exec(file)?.[1] ?? [])
  .sort();

export function exampleFile(target: string): string {
  return join(EXAMPLES, `Pulumi.${target}.yaml`);
}

/** What an example sets, by the keys under `tunestack:`. */
export function exampleSettings(target: string): Readonly<Record<string, unknown>> {
  const { config } = schema.parse(parse(readFileSync(exampleFile(target), "utf8")));
  return Object.fromEntries(Object.entries(config).map(([key, value]) => [key.slice("tunestack:".length), value]));
}

/** What an example rents without a price being known of it, as the preview names it, sorted. */
export const UNPRICED: Readonly<Partial<Record<string, readonly string[]>>> = {
  gke: ["training-checkpoints", "training-logs", "training-models-cache"].map(
    (volume) => `tunestack-cluster-claim-${volume} (Filestore, 100Gi)`,
  ),
};
