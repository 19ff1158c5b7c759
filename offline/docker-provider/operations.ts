import type Docker from "dockerode";
import { check, type Problem } from "./check.ts";
import { containers } from "./container.ts";
import { type Change, diff, topLevel } from "./diff.ts";
import { engineMessage } from "./engine.ts";
import { networks } from "./network.ts";
import { remoteImages } from "./remote-image.ts";
import type { Made, Resource, ResourceContext } from "./resource.ts";
import type { Properties } from "./shape.ts";
import { inputsFromState, plannedState, withMeta, withoutMarks } from "./state.ts";
import { volumes } from "./volume.ts";

const resources: ReadonlyMap<string, Resource> = new Map(
  [containers, networks, remoteImages, volumes].map((one) => [one.token, one]),
);

/** The type token in a URN: the part before the last, without the types of its parents. */
export function tokenOf(urn: string): string {
  const types = urn.split("::")[2] ?? "";
  return types.slice(types.lastIndexOf("$") + 1);
}

export function resourceOf(urn: string): Resource {
  const token = tokenOf(urn);
  const resource = resources.get(token);
  if (resource !== undefined) return resource;
  const known = [...resources.keys()].join(", ");
  throw new Error(
    `resource type ${token}: this stand-in of the Docker provider covers only ${known}; the official provider covers all`,
  );
}

export interface DiffResult {
  readonly changes: readonly Change[];
  readonly stable: readonly string[];
  readonly deleteFirst: boolean;
}

/** What each call of the engine does, on plain values; `docker` and `warn` are its only ways out. */
export interface Operations {
  check(
    urn: string,
    given: Properties,
    old: Properties,
    seed: Uint8Array,
  ): { inputs: Properties; problems: readonly Problem[] };
  diff(urn: string, state: Properties, inputs: Properties, ignored: readonly string[]): DiffResult;
  create(urn: string, inputs: Properties, preview: boolean): Promise<Made>;
  read(
    urn: string,
    id: string,
    state: Properties,
    inputs: Properties,
  ): Promise<(Made & { inputs: Properties }) | undefined>;
  update(
    urn: string,
    id: string,
    state: Properties,
    inputs: Properties,
    ignored: readonly string[],
    preview: boolean,
  ): Promise<Properties>;
  remove(urn: string, id: string, state: Properties): Promise<void>;
}

export type Warn = (urn: string, message: string) => void;

export function operations(docker: () => Docker, warn: Warn): Operations {
  let apiVersion: Promise<string> | undefined;
  const context = (urn: string): ResourceContext => ({
    docker: docker(),
    apiVersion: () => {
      apiVersion ??= docker()
        .version()
        .then(({ ApiVersion }) => ApiVersion);
      return apiVersion;
    },
    warn: (message) => warn(urn, message),
  });

  return {
    check(urn, given, old, seed) {
      const { shape, named } = resourceOf(urn);
      return check({ shape, urn, given, old, seed, named });
    },

    diff(urn, state, inputs, ignored) {
      const { shape, alwaysDeletesFirst, named } = resourceOf(urn);
      const changes = diff(shape, state, inputs, ignored);
      const replaced = new Set(changes.filter((one) => one.replaces).map(({ path }) => topLevel(path)));
      const stable = Object.keys(shape).filter((name) => shape[name]?.replaces && !replaced.has(name));
      const givenName = named && !isFilledIn(inputs, "name");
      return { changes, stable, deleteFirst: replaced.size > 0 && (alwaysDeletesFirst || givenName) };
    },

    async create(urn, inputs, preview) {
      const resource = resourceOf(urn);
      if (preview) return { id: "", state: plannedState(resource, withoutMarks(inputs)) };
      const made = await resource.create(context(urn), withoutMarks(inputs));
      return { id: made.id, state: withMeta(resource, made.state) };
    },

    async read(urn, id, state, inputs) {
      const resource = resourceOf(urn);
      try {
        const found = await resource.read(context(urn), id, withoutMarks(state));
        if (found === undefined) return undefined;
        return {
          id: found.id,
          state: withMeta(resource, found.state),
          inputs: inputsFromState(resource, inputs, found.state),
        };
      } catch (error) {
        throw new Error(engineMessage(error));
      }
    },

    async update(urn, id, state, inputs, ignored, preview) {
      const resource = resourceOf(urn);
      const changes = diff(resource.shape, state, inputs, ignored);
      const before = withoutMarks(state);
      const kept = Object.fromEntries(ignored.map((name) => [name, before[name] ?? null]));
      const wanted = { ...withoutMarks(inputs), ...kept };
      if (!preview) await resource.update(context(urn), id, before, wanted, changes);
      const dropped = changes.filter((one) => one.kind === "delete").map(({ path }) => path);
      const next = Object.entries({ ...before, ...wanted }).filter(
        ([name, value]) => value !== null && !dropped.includes(name),
      );
      return withMeta(resource, Object.fromEntries(next));
    },

    async remove(urn, id, state) {
      await resourceOf(urn).remove(context(urn), id, withoutMarks(state));
    },
  };
}

function isFilledIn(inputs: Properties, name: string): boolean {
  const names = inputs.__defaults;
  return Array.isArray(names) && names.includes(name);
}
