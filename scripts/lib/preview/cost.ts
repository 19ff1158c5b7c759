import type { PreviewedResource } from "../../../policy/types.ts";

/** Packages whose resources are on one's own machines. */
const OWN_MACHINES = new Set(["docker", "docker-build", "pulumi", "tunestack"]);

/** Types that are paid for by the hour, as long as they are there. */
const RENTED =
  /^(gcp:compute\/(instance|instanceTemplate|regionInstanceTemplate|instanceGroupManager|regionInstanceGroupManager|disk|regionDisk|routerNat):|gcp:container\/(cluster|nodePool):|gcp:storage\/bucket:|gcp:artifactregistry\/repository:|gcp:colab\/)/;

/**
 * What resources cost by the hour, in US dollars.
 * @returns 0 where nothing is rented, undefined where something is whose price is not known.
 */
export function costOf(resources: readonly Pick<PreviewedResource, "type">[]): number | undefined {
  const known = resources.every(({ type }) => OWN_MACHINES.has(type.split(":")[0] ?? type) || !RENTED.test(type));
  return known ? 0 : undefined;
}

/** The cost before and after an update, in a line. */
export function costLine(resources: readonly PreviewedResource[]): string {
  const before = costOf(resources.filter(({ operation }) => operation !== "create"));
  const after = costOf(resources.filter(({ operation }) => operation !== "delete"));
  if (before === 0 && after === 0) return "no rented machines";
  return `${dollars(before)} an hour before, ${dollars(after)} after`;
}

function dollars(cost: number | undefined): string {
  return cost === undefined ? "price not known" : `$${cost.toFixed(2)}`;
}
