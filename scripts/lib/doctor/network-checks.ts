import type { PresetFacts } from "../../../stacks/settings/presets.ts";
import { type Check, fail, ok, warn } from "./check.ts";

export interface RegistryFacts {
  readonly host: string;
  readonly reachable: boolean;
  /** Base image that was made without it. */
  readonly baseImage: string | undefined;
}

export function registryCheck({ host, reachable, baseImage }: RegistryFacts): Check {
  if (reachable) return ok("registry", `${host} answers`);
  return baseImage === undefined
    ? warn(
        "registry",
        `${host} does not answer`,
        "check the network or a proxy; npm start makes a base image without it",
      )
    : warn(
        "registry",
        `${host} does not answer; the base is ${baseImage}, made here`,
        "nothing: what must come from it is left out by name",
      );
}

export interface HubFacts {
  readonly reachable: boolean;
  /** A token is kept for the stack. */
  readonly token: boolean;
  /** HTTP status for a file of the model, asked with the token; undefined where it was not asked. */
  readonly status: number | undefined;
}

export interface ModelFacts {
  /** Hugging Face id that the run needs; undefined for the rehearsal and for a folder of this machine. */
  readonly id: string | undefined;
  readonly gated: PresetFacts["gated"];
}

export function hubCheck({ reachable, token }: Pick<HubFacts, "reachable" | "token">): Check {
  const said = token ? "a token is set" : "no token is set";
  return reachable
    ? ok("Hugging Face", `the hub answers; ${said}`)
    : warn(
        "Hugging Face",
        `the hub does not answer; ${said}`,
        "models in the cache and in folders work; for others check the network or HTTPS_PROXY",
      );
}

/** Whether the run can have its model. */
export function modelCheck({ id, gated }: ModelFacts, { reachable, token, status }: HubFacts): Check {
  const name = "model";
  if (id === undefined) return ok(name, "made on the spot, or in a folder");
  const page = `https://huggingface.co/${id}`;
  if (gated && !token) {
    return fail(
      name,
      `${id} is gated and no token is set`,
      `accept the licence at ${page}, make a token at https://huggingface.co/settings/tokens, and start the run with HF_TOKEN=…`,
    );
  }
  if (!reachable || status === undefined)
    return warn(name, `${id}: the hub cannot be asked`, "it works if the model is in the cache");
  switch (status) {
    case 401:
      return fail(
        name,
        `${id}: the hub refuses ${token ? "the token" : "to give it without a token"}`,
        "make a new one at https://huggingface.co/settings/tokens, and start the run with HF_TOKEN=…",
      );
    case 403:
      return fail(name, `${id}: the token's account may not have it`, `accept the licence at ${page}`);
    case 404:
      return fail(name, `${id}: the hub has no such model`, "check the id in training.model");
    default:
      return status < 400
        ? ok(name, `${id} can be had`)
        : warn(name, `${id}: the hub answers ${status}`, "try again later");
  }
}
