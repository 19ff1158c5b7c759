import type Docker from "dockerode";
import { inventoryOf, readListing } from "../../../scripts/lib/clean/inventory.ts";
import { removeOrphans } from "../../../scripts/lib/doctor/orphans.ts";
import { CLONE_NAME, PREFIX, run, STACK } from "./clone.ts";

/** Stands in the commands of a build that is measured and thrown away, so that its cache can be told from others'. */
export const MARK = "TUNESTACK_THROWN_AWAY=1";

/** Removes what a benchmark made, also what one that was killed left. */
export async function cleanUp(client: Docker): Promise<void> {
  const listing = await readListing(client);
  const ours = listing.things.filter(({ owner }) => owner?.startsWith(`${STACK}@`) && owner.includes(CLONE_NAME));
  const { networks, images, volumes } = inventoryOf(listing, STACK, { prefix: PREFIX, owner: "" });
  await removeOrphans(client, [...ours, ...networks], 1);
  for (const { name } of volumes) await client.getVolume(name).remove();
  for (const { tag } of images) await client.getImage(tag).remove({ force: true });
  for (const tag of listing.images.flatMap(({ tags }) => tags)) {
    if (tag.startsWith(`tunestack/${PREFIX}`) && !images.some((image) => image.tag === tag)) {
      await client.getImage(tag).remove({ force: true });
    }
  }
  await forgetMarkedBuilds(client);
}

/** A record of the engine's build cache. */
export interface CacheRecord {
  readonly ID: string;
  readonly Description?: string;
  /** Up to API 1.41. */
  readonly Parent?: string;
  /** Since API 1.42. */
  readonly Parents?: readonly string[] | null;
}

/** Records of marked builds and of all that stands on them, each before what it stands on. */
export function markedRecords(records: readonly CacheRecord[], mark: string = MARK): readonly string[] {
  const childrenOf = (id: string) => records.filter((record) => parentsOf(record).includes(id)).map(({ ID }) => ID);
  const order: string[] = [];
  const visit = (id: string) => {
    if (order.includes(id)) return;
    for (const child of childrenOf(id)) visit(child);
    order.push(id);
  };
  for (const { ID, Description } of records) if (Description?.includes(mark)) visit(ID);
  return order;
}

function parentsOf({ Parent, Parents }: CacheRecord): readonly string[] {
  return Parents ?? (Parent === undefined || Parent === "" ? [] : [Parent]);
}

async function forgetMarkedBuilds(client: Docker): Promise<void> {
  const { BuildCache } = (await client.df()) as { BuildCache?: readonly CacheRecord[] | null };
  for (const id of markedRecords(BuildCache ?? [])) {
    await run("docker", ["builder", "prune", "--all", "--force", "--filter", `id=${id}`], ".");
  }
}
