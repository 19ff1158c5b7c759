import type Docker from "dockerode";
import { LABELS, type Naming, networkName } from "../../../stacks/targets/docker/render.ts";
import type { KnownState } from "./state.ts";

/** A container or network of the engine, as far as mending needs to know it. */
export interface FoundThing {
  readonly kind: "container" | "network";
  readonly id: string;
  readonly name: string;
  readonly running: boolean;
  /** Stack and project folder that made it; undefined for what carries no label of ours. */
  readonly owner: string | undefined;
  /** The run that it trains. */
  readonly run: string | undefined;
  /** A network with containers on it. */
  readonly inUse: boolean;
}

/** Things on the engine that a killed `up` made and could not write down. */
export function findOrphans(
  found: readonly FoundThing[],
  naming: Naming,
  state: Pick<KnownState, "containers" | "networks">,
): readonly FoundThing[] {
  return found.filter((thing) =>
    thing.kind === "container"
      ? thing.owner === naming.owner && !state.containers.has(thing.id)
      : // Networks carry no label: the name is ours, and one that another stack uses has containers on it.
        thing.name === networkName(naming) && !state.networks.has(thing.id) && !thing.inUse,
  );
}

/** What the state knows and the engine has no more, such as a container that someone removed by hand. */
export function findMissing(
  found: readonly FoundThing[],
  state: Pick<KnownState, "containers" | "networks">,
): readonly string[] {
  const there = new Set(found.map(({ id }) => id));
  return [...state.containers, ...state.networks].filter((id) => !there.has(id));
}

export async function readThings(client: Docker): Promise<readonly FoundThing[]> {
  const [containers, networks] = await Promise.all([client.listContainers({ all: true }), client.listNetworks()]);
  const busy = new Set(
    containers.flatMap(({ NetworkSettings }) =>
      Object.values(NetworkSettings?.Networks ?? {}).map(({ NetworkID }) => NetworkID),
    ),
  );
  return [
    ...containers.map(
      (info): FoundThing => ({
        kind: "container",
        id: info.Id,
        name: info.Names[0]?.replace(/^\//, "") ?? info.Id.slice(0, 12),
        running: info.State === "running" || info.State === "restarting",
        owner: info.Labels[LABELS.owner],
        run: info.Labels[LABELS.run],
        inUse: false,
      }),
    ),
    ...networks.map(
      (info): FoundThing => ({
        kind: "network",
        id: info.Id,
        name: info.Name,
        running: false,
        owner: undefined,
        run: undefined,
        inUse: busy.has(info.Id),
      }),
    ),
  ];
}

/**
 * Removes containers and networks; volumes, which hold the data, stay. A run in progress is stopped first and saves a
 * checkpoint.
 * @param stopGrace seconds that a run has to save in.
 * @returns the names of what was removed.
 */
export async function removeOrphans(
  client: Docker,
  orphans: readonly FoundThing[],
  stopGrace: number,
): Promise<readonly string[]> {
  const containersFirst = [...orphans].sort((a, b) => a.kind.localeCompare(b.kind));
  for (const { kind, id, running, run } of containersFirst) {
    if (kind === "network") {
      await client.getNetwork(id).remove().catch(ignoreGone);
      continue;
    }
    const container = client.getContainer(id);
    if (running && run !== undefined) await container.stop({ t: Math.ceil(stopGrace) }).catch(ignoreGone);
    await container.remove({ force: true }).catch(ignoreGone);
  }
  return containersFirst.map(({ name }) => name);
}

/** 404: gone meanwhile; 304: stopped meanwhile; 409: its removal is in progress. */
function ignoreGone(error: unknown): void {
  const code = error instanceof Error && "statusCode" in error ? error.statusCode : undefined;
  if (code !== 404 && code !== 304 && code !== 409) throw error;
}
