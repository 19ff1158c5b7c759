import type { PreviewedResource } from "../../../policy/types.ts";
import { isTree, treesIn } from "../../../policy/values.ts";
import {
  CLUSTER_FEE,
  diskPrice,
  type HourlyPrice,
  isAttached,
  machinePrice,
  NAT_GATEWAY,
  PRICE_SOURCE,
  regionOf,
} from "../../../stacks/settings/gcp-prices.ts";
import { FILESTORE_DRIVER } from "../../../stacks/settings/gke.ts";

/** What resources cost by the hour, in US dollars. Storage by the gigabyte and traffic come on top. */
export interface HourlyCost extends HourlyPrice {
  /** As they are declared: each machine on spot or at the standard price. */
  readonly asDeclared: number;
  /** As declared, with every node that a pool may grow to. */
  readonly atMost: number;
  /** Names of what is rented and whose price is not known. */
  readonly unpriced: readonly string[];
}

type Priced = Pick<PreviewedResource, "name" | "type" | "inputs">;

const FREE: HourlyCost = { asDeclared: 0, atMost: 0, spot: 0, standard: 0, unpriced: [] };

/** Types that are paid for by the hour and have no price here. */
const WITHOUT_PRICE =
  /^gcp:(compute\/(instance|regionInstanceTemplate|instanceGroupManager|regionDisk):|colab\/runtime:|filestore\/|sql\/|tpu\/)/;

/** What resources cost by the hour, together. */
export function costOf(resources: readonly Priced[]): HourlyCost {
  const shareClasses = resources.flatMap(shareClass);
  return resources
    .map((resource) => resourceCost(resource, shareClasses))
    .reduce(
      (sum, one) => ({
        asDeclared: sum.asDeclared + one.asDeclared,
        atMost: sum.atMost + one.atMost,
        spot: sum.spot + one.spot,
        standard: sum.standard + one.standard,
        unpriced: [...sum.unpriced, ...one.unpriced],
      }),
      FREE,
    );
}

function resourceCost(resource: Priced, shareClasses: readonly string[]): HourlyCost {
  const { name, type, inputs } = resource;
  switch (type) {
    // Its group has one machine; the group itself costs nothing.
    case "gcp:compute/instanceTemplate:InstanceTemplate":
      return machineCost(name, inputs);
    case "gcp:compute/disk:Disk":
      return fixed(name, diskPrice(Number(inputs.size), regionOf(String(inputs.zone))));
    case "gcp:container/cluster:Cluster":
      return fixed(name, CLUSTER_FEE);
    case "gcp:container/nodePool:NodePool":
      return poolCost(name, inputs);
    case "gcp:compute/routerNat:RouterNat":
      return fixed(name, NAT_GATEWAY);
    case CLAIM:
      return claimCost(name, inputs, shareClasses);
    default:
      return WITHOUT_PRICE.test(type) ? fixed(name, undefined) : FREE;
  }
}

function machineCost(name: string, inputs: Priced["inputs"]): HourlyCost {
  const region = String(inputs.region);
  const attached = treesIn(inputs.guestAccelerators)[0]?.type;
  const machine = machinePrice(
    String(inputs.machineType),
    region,
    attached === undefined ? undefined : String(attached),
  );
  const disks = treesIn(inputs.disks).reduce<number | undefined>((sum, { diskSizeGb }) => {
    const price = diskPrice(Number(diskSizeGb), region);
    return sum === undefined || price === undefined ? undefined : sum + price;
  }, 0);
  if (machine === undefined || disks === undefined) return fixed(name, undefined);
  const { scheduling } = inputs;
  const onSpot = isTree(scheduling) && scheduling.provisioningModel === "SPOT";
  const [spot, standard] = [machine.spot + disks, machine.standard + disks];
  const asDeclared = onSpot ? spot : standard;
  return { asDeclared, atMost: asDeclared, spot, standard, unpriced: [] };
}

/** The nodes that are always there, and at most all that there may be. */
function poolCost(name: string, { location, nodeConfig, autoscaling }: Priced["inputs"]): HourlyCost {
  if (!isTree(nodeConfig) || !isTree(autoscaling)) return fixed(name, undefined);
  const region = regionOf(String(location));
  const attached = treesIn(nodeConfig.guestAccelerators)
    .map(({ type }) => String(type))
    .find(isAttached);
  const machine = machinePrice(String(nodeConfig.machineType), region, attached);
  const disk = diskPrice(Number(nodeConfig.diskSizeGb), region);
  if (machine === undefined || disk === undefined) return fixed(name, undefined);
  const node = { spot: machine.spot + disk, standard: machine.standard + disk };
  const declared = nodeConfig.spot === true ? node.spot : node.standard;
  const [least, most] = [Number(autoscaling.totalMinNodeCount), Number(autoscaling.totalMaxNodeCount)];
  return {
    asDeclared: least * declared,
    atMost: most * declared,
    spot: least * node.spot,
    standard: least * node.standard,
    unpriced: [],
  };
}

const CLAIM = "kubernetes:core/v1:PersistentVolumeClaim";
const STORAGE_CLASS = "kubernetes:storage.k8s.io/v1:StorageClass";

/** The name of a storage class for which Filestore makes shares; none for any other resource. */
function shareClass({ type, inputs: { metadata, provisioner } }: Priced): readonly string[] {
  if (type !== STORAGE_CLASS || provisioner !== FILESTORE_DRIVER || !isTree(metadata)) return [];
  return [String(metadata.name)];
}

/**
 * A claim that Filestore makes a share for, which costs by the size that is asked for, used or not. No price of it could be
 * had that can be trusted (looked for on 2026-11-30): the document of the other prices has none, Google's page shows them to
 * a browser alone, and what people write of the tier `basic` in Iowa is 0.16 dollars a GiB and month, or 0.20.
 */
function claimCost(name: string, { spec }: Priced["inputs"], shareClasses: readonly string[]): HourlyCost {
  if (!isTree(spec) || !shareClasses.includes(String(spec.storageClassName))) return FREE;
  const requests = isTree(spec.resources) ? spec.resources.requests : undefined;
  const size = isTree(requests) ? `, ${String(requests.storage)}` : "";
  return fixed(`${name} (Filestore${size})`, undefined);
}

function fixed(name: string, price: number | undefined): HourlyCost {
  if (price === undefined || Number.isNaN(price)) return { ...FREE, unpriced: [name] };
  return { asDeclared: price, atMost: price, spot: price, standard: price, unpriced: [] };
}

export interface CostChange {
  readonly before: HourlyCost;
  readonly after: HourlyCost;
}

/** The cost of what is there before an update, by what it was declared with, and of what is there after it. */
export function costChange(resources: readonly PreviewedResource[]): CostChange {
  const before = resources.filter(({ operation }) => operation !== "create");
  return {
    before: costOf(before.map((resource) => ({ ...resource, inputs: resource.before ?? resource.inputs }))),
    after: costOf(resources.filter(({ operation }) => operation !== "delete")),
  };
}

/** The cost before and after an update, in a line. */
export function costLine(resources: readonly PreviewedResource[]): string {
  const { before, after } = costChange(resources);
  if (isNothing(before) && isNothing(after)) return "no rented machines";
  const kinds = isNothing(after)
    ? ""
    : ` (on spot ${dollars(after, after.spot)}, standard ${dollars(after, after.standard)})`;
  const grown = after.atMost > after.asDeclared ? `, up to ${dollars(after, after.atMost)} with all nodes` : "";
  const missing = [...new Set([...before.unpriced, ...after.unpriced])];
  return [
    `${dollars(before, before.asDeclared)} an hour before, ${dollars(after, after.asDeclared)} after${kinds}${grown}`,
    `list prices of ${PRICE_SOURCE.date}, storage by the gigabyte and traffic apart`,
    ...(missing.length === 0 ? [] : [`price not known: ${missing.join(", ")}`]),
  ].join("; ");
}

function isNothing({ standard, unpriced }: HourlyCost): boolean {
  return standard === 0 && unpriced.length === 0;
}

/** What is not known comes on top of what is. */
function dollars({ unpriced }: HourlyCost, cost: number): string {
  if (unpriced.length === 0) return `$${cost.toFixed(2)}`;
  return cost === 0 ? "price not known" : `more than $${cost.toFixed(2)}`;
}
