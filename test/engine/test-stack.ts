import { existsSync, rmSync } from "node:fs";
import { Containers } from "../../scripts/lib/containers.ts";
import { setPersonal } from "../../scripts/lib/personal.ts";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { ensureSecrets } from "../../scripts/lib/setup/secrets.ts";
import { openStack } from "../../scripts/lib/stack.ts";
import { personalStackFile, secretsFolder } from "../../stacks/settings/load.ts";
import { freePorts } from "../lib/ports.ts";

export const ENGINE = new Containers({});

/** A stack of the tests: its own name, prefix, ports and secrets; nothing of an earlier, killed run is left. */
export async function freshStack(name: string, settings: Readonly<Record<string, unknown>> = {}): Promise<TestStack> {
  const prefix = `${name}-`;
  await removeEverything(name, prefix);
  ensureSecrets(name);
  const [jupyter, tensorboard, wandb, monitor] = await freePorts(4);
  setPersonal(name, {
    docker: { prefix },
    training: { run: "first", preset: "rehearsal" },
    services: {
      jupyter: { port: jupyter },
      tensorboard: { port: tensorboard },
      "wandb-local": { port: wandb },
      "gpu-monitor": { port: monitor, interval: "1s" },
    },
    ...settings,
  });
  return { name, prefix, remove: async () => await removeEverything(name, prefix) };
}

export interface TestStack {
  readonly name: string;
  readonly prefix: string;
  readonly remove: () => Promise<void>;
}

/** By the engine's own means, so that half a stack, a locked one and one without state go as well. */
async function removeEverything(name: string, prefix: string): Promise<void> {
  const { client } = ENGINE;
  for (const { Id } of await client.listContainers({ all: true, filters: { name: [`^/${prefix}`] } })) {
    await client.getContainer(Id).remove({ force: true, v: true });
  }
  for (const { Id, Name } of await client.listNetworks()) {
    if (Name.startsWith(prefix)) await client.getNetwork(Id).remove();
  }
  for (const { Name } of (await client.listVolumes()).Volumes) {
    if (Name.startsWith(prefix)) await client.getVolume(Name).remove();
  }
  for (const { RepoTags } of await client.listImages()) {
    for (const tag of RepoTags ?? []) if (tag.startsWith(`tunestack/${prefix}`)) await client.getImage(tag).remove();
  }
  if (existsSync(personalStackFile(PROJECT_DIR, name))) {
    const stack = await openStack(name);
    await stack.cancel().catch(() => undefined);
    await stack.workspace.removeStack(name, { force: true });
  }
  rmSync(personalStackFile(PROJECT_DIR, name), { force: true });
  rmSync(secretsFolder(PROJECT_DIR, name), { recursive: true, force: true });
}
