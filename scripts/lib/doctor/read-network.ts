import { readFileSync } from "node:fs";
import { officialReachable } from "../../../offline/setup.ts";
import type { StackInputs } from "../../../stacks/settings/load.ts";
import { presetFacts } from "../../../stacks/settings/presets.ts";
import type { HubFacts, ModelFacts, RegistryFacts } from "./network-checks.ts";

const REGISTRY = "registry-1.docker.io";
const HUB = "https://huggingface.co";
const TIMEOUT_MS = 3000;

export async function readRegistry(baseImage: string | undefined): Promise<RegistryFacts> {
  return { host: REGISTRY, reachable: await officialReachable("registry"), baseImage };
}

/** The model that the run needs from the hub. */
export function neededModel({ settings, model }: StackInputs): ModelFacts {
  const { preset } = settings.training;
  if (model !== undefined) return { id: model.kind === "hub" ? model.id : undefined, gated: false };
  if (preset === undefined) return { id: undefined, gated: false };
  const facts = presetFacts(preset);
  return { id: facts.model, gated: facts.gated };
}

export async function readHub({ secretFiles }: StackInputs, { id }: ModelFacts): Promise<HubFacts> {
  const file = secretFiles["hf-token"];
  const token = file === undefined ? undefined : readFileSync(file, "utf8").trim();
  // Without a model to ask for, a small public file tells that the hub answers.
  const status = await statusOf(`${HUB}/${id ?? "gpt2"}/resolve/main/config.json`, token);
  return { reachable: status !== undefined, token: token !== undefined, status: id === undefined ? undefined : status };
}

/** The status of an address; undefined where nothing answers in time, or something else than the hub does. */
async function statusOf(address: string, token: string | undefined): Promise<number | undefined> {
  try {
    const answer = await fetch(address, {
      method: "HEAD",
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return answer.headers.has("x-request-id") || answer.headers.has("x-repo-commit") ? answer.status : undefined;
  } catch {
    return undefined;
  }
}
