import { engineMessage, isGone, orGone } from "./engine.ts";
import { labelList, labelMap, stringMap, text } from "./read-properties.ts";
import type { Resource } from "./resource.ts";
import { volumeShape } from "./shapes.ts";
import { untilRemoved } from "./until-removed.ts";

export const volumes: Resource = {
  token: "docker:index/volume:Volume",
  shape: volumeShape,
  schemaVersion: 1,
  timeouts: [],
  named: true,
  alwaysDeletesFirst: false,

  async create(context, inputs) {
    try {
      const volume = await context.docker.createVolume({
        Name: text(inputs.name) ?? "",
        Labels: labelMap(inputs.labels) ?? {},
        Driver: text(inputs.driver) ?? "",
        DriverOpts: stringMap(inputs.driverOpts) ?? {},
      });
      const made = await volumes.read(context, volume.name, inputs);
      if (made !== undefined) return made;
    } catch (error) {
      throw new Error(`Unable to create volume: ${engineMessage(error)}`);
    }
    throw new Error("Unable to create volume: it vanished at once");
  },

  async read(context, id, before) {
    const found = await orGone(context.docker.getVolume(id).inspect());
    if (found === undefined) return undefined;
    const state = {
      ...before,
      name: found.Name,
      labels: labelList(found.Labels),
      driver: found.Driver,
      driverOpts: found.Options ?? {},
      mountpoint: found.Mountpoint,
    };
    return { id: found.Name, state };
  },

  /** Every property that can be set replaces the volume. */
  async update() {},

  async remove(context, id) {
    await untilRemoved(`volume ${id}`, async () => {
      try {
        await context.docker.getVolume(id).remove({ force: true });
        return true;
      } catch (error) {
        if (isGone(error)) return true;
        if (engineMessage(error).includes("volume is in use")) return false;
        throw new Error(engineMessage(error));
      }
    });
  },
};
