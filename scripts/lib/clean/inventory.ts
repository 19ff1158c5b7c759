import type Docker from "dockerode";
import type { VolumeName } from "../../../stacks/plan/types.ts";
import { VOLUMES } from "../../../stacks/plan/volumes.ts";
import { type Naming, networkName, volumeName } from "../../../stacks/targets/docker/render.ts";
import { type FoundThing, readThings } from "../doctor/orphans.ts";

/** What the engine holds, as far as cleaning needs to know it. */
export interface Listing {
  readonly things: readonly FoundThing[];
  readonly images: readonly { readonly id: string; readonly tags: readonly string[]; readonly bytes: number }[];
  readonly volumes: readonly {
    readonly name: string;
    /** Undefined where the engine did not measure it. */
    readonly bytes: number | undefined;
  }[];
}

/** What a stack made on the engine. */
export interface Inventory {
  readonly containers: readonly FoundThing[];
  readonly networks: readonly FoundThing[];
  readonly images: readonly { readonly tag: string; readonly bytes: number }[];
  readonly volumes: readonly VolumeEntry[];
}

export interface VolumeEntry {
  readonly volume: VolumeName;
  /** With the stack's prefix; in a cluster the name of its claim. */
  readonly name: string;
  /** What is lost with it. */
  readonly holds: string;
  /** Of its files; in a cluster what the claim has room for. */
  readonly bytes: number | undefined;
}

/** What of a listing a stack made: containers by their label, the rest by name. */
export function inventoryOf({ things, images, volumes }: Listing, stack: string, naming: Naming): Inventory {
  const isOurs = (tag: string) =>
    tag.startsWith(`tunestack/${naming.prefix}`) && isStage(tag.slice(`tunestack/${naming.prefix}`.length), stack);
  return {
    containers: things.filter(({ kind, owner }) => kind === "container" && owner === naming.owner),
    networks: things.filter(({ kind, name }) => kind === "network" && name === networkName(naming)),
    images: images.flatMap(({ tags, bytes }) => tags.filter(isOurs).map((tag) => ({ tag, bytes }))),
    volumes: VOLUMES.flatMap(({ name: volume, holds }) => {
      const name = volumeName(naming, volume);
      const found = volumes.find((entry) => entry.name === name);
      return found === undefined ? [] : [{ volume, name, holds, bytes: found.bytes }];
    }),
  };
}

/** `training:dev` is a stage of the stack `dev`, `dry-run:dev` one by another name; `lab-training:dev` is not of it. */
function isStage(rest: string, stack: string): boolean {
  return /^(training|dev|monitor|backup|dry-run):/.test(rest) && rest.split(":")[1] === stack;
}

export async function readListing(client: Docker): Promise<Listing> {
  const [things, images, volumes] = await Promise.all([readThings(client), client.listImages(), readVolumes(client)]);
  return {
    things,
    images: images.map(({ Id, RepoTags, Size }) => ({ id: Id, tags: RepoTags ?? [], bytes: Size })),
    volumes,
  };
}

interface DiskUsage {
  readonly Volumes?: readonly { readonly Name: string; readonly UsageData?: { readonly Size: number } | null }[] | null;
}

async function readVolumes(client: Docker): Promise<Listing["volumes"]> {
  const [{ Volumes }, usage] = await Promise.all([client.listVolumes(), client.df() as Promise<DiskUsage>]);
  const sizes = new Map((usage.Volumes ?? []).map(({ Name, UsageData }) => [Name, UsageData?.Size]));
  return (Volumes ?? []).map(({ Name }) => {
    const bytes = sizes.get(Name);
    return { name: Name, bytes: bytes === undefined || bytes < 0 ? undefined : bytes };
  });
}
