import { openBucket } from "./buckets.ts";
import { gpuWithoutBudget } from "./budget.ts";
import { publicExposure } from "./exposure.ts";
import { broadIdentity } from "./identity.ts";
import { plainSecrets } from "./secrets.ts";
import { unprotectedData } from "./stores.ts";
import type { PreviewedResource, Rule, Violation } from "./types.ts";

/** The rules that a preview is held to. A new one stands in a file of its own, with a fixture that passes and one that fails. */
export const RULES: readonly Rule[] = [
  publicExposure,
  plainSecrets,
  broadIdentity,
  openBucket,
  unprotectedData,
  gpuWithoutBudget,
];

/** Everything that the rules do not let pass, in the order of rule and path. */
export function violations(resources: readonly PreviewedResource[]): readonly Violation[] {
  const found = RULES.flatMap((rule) => rule.check(resources));
  return found.sort((a, b) => (order(a) < order(b) ? -1 : 1));
}

function order({ rule, path }: Violation): string {
  return `${rule}\0${path}`;
}
