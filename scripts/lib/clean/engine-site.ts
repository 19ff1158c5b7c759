import { engineSettings } from "../../../stacks/settings/engine.ts";
import type { InputsOf } from "../../../stacks/settings/load.ts";
import { formatBytes } from "../../../stacks/settings/units.ts";
import { Containers } from "../containers.ts";
import { readEngineFacts } from "../doctor/read-machine.ts";
import { machineError } from "../errors.ts";
import { namingOf } from "../naming.ts";
import { type Inventory, inventoryOf, readListing } from "./inventory.ts";
import { runInProgress } from "./refusals.ts";
import { removeEverything } from "./remove.ts";
import type { Site } from "./site.ts";
import { findUnsaved } from "./unsaved.ts";

/** @throws UserError where the engine does not answer. */
export async function openEngineSite(inputs: InputsOf<"docker">): Promise<Site> {
  const { host } = engineSettings(inputs);
  const containers = new Containers(host === undefined ? {} : { engine: host });
  const { facts } = await readEngineFacts(containers.client, host);
  if ("problem" in facts) throw machineError(facts.problem);
  const inventory = inventoryOf(await readListing(containers.client), inputs.stack, namingOf(inputs));
  const running = runInProgress(inventory, inputs.stack);
  return {
    where: "on this engine",
    rows: engineRows(inventory),
    volumes: inventory.volumes,
    inProgress: running === undefined ? [] : [running],
    findUnsaved: () => findUnsaved(containers, inputs),
    remove: async (removal) => {
      await removeEverything(containers.client, inputs, removal);
      return "npm start brings everything back; docker builder prune frees the build cache, which other projects share";
    },
  };
}

export function engineRows({ containers, networks, images }: Omit<Inventory, "volumes">): Site["rows"] {
  return [
    ...containers.map(({ name, running }) => ["container", name, "", running ? "running" : "stands still"]),
    ...networks.map(({ name }) => ["network", name, "", ""]),
    ...images.map(({ tag, bytes }) => ["image", tag, formatBytes(bytes), "built again by npm start"]),
  ];
}
