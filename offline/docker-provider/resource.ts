import type Docker from "dockerode";
import type { Change } from "./diff.ts";
import type { Properties, Shape } from "./shape.ts";

/** What resources need of the provider that they belong to. */
export interface ResourceContext {
  readonly docker: Docker;
  /** The version of the engine's API, as `1.41`. */
  readonly apiVersion: () => Promise<string>;
  /** Shows the person a warning beside the resource that is being worked on. */
  readonly warn: (message: string) => void;
}

export interface Made {
  readonly id: string;
  readonly state: Properties;
}

/** A kind of resource: its properties, and what is done to one. */
export interface Resource {
  readonly token: string;
  readonly shape: Shape;
  /** The version of the state's form, which the official provider wants to know when it takes over. */
  readonly schemaVersion: number;
  /** What can take long: the calls that the official provider gives twenty minutes. */
  readonly timeouts: readonly ("create" | "update" | "delete")[];
  /** Whether a name is made up where the program gives none. */
  readonly named: boolean;
  /** Whether the old one is removed before its replacement is made, whatever its name. */
  readonly alwaysDeletesFirst: boolean;
  create(context: ResourceContext, inputs: Properties): Promise<Made>;
  /** The resource as it is now; undefined when it is gone. */
  read(context: ResourceContext, id: string, before: Properties): Promise<Made | undefined>;
  update(
    context: ResourceContext,
    id: string,
    before: Properties,
    inputs: Properties,
    changes: readonly Change[],
  ): Promise<void>;
  remove(context: ResourceContext, id: string, state: Properties): Promise<void>;
}

/** Made, but not in the condition that was asked for: it is kept in the state, and the next update tries again. */
export class Incomplete extends Error {
  readonly id: string;
  readonly state: Properties;

  constructor(id: string, state: Properties, reason: string) {
    super(reason);
    this.id = id;
    this.state = state;
  }
}
