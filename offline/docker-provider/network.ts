import type { NetworkCreateOptions } from "dockerode";
import { engineMessage, isGone, orGone } from "./engine.ts";
import { flag, labelList, labelMap, objects, stringMap, text } from "./read-properties.ts";
import type { Resource } from "./resource.ts";
import type { Properties } from "./shape.ts";
import { networkShape } from "./shapes.ts";
import { untilRemoved } from "./until-removed.ts";

function addressing(inputs: Properties): NetworkCreateOptions["IPAM"] {
  return {
    Driver: text(inputs.ipamDriver) ?? "default",
    Config: objects(inputs.ipamConfigs).map((one) => ({
      Subnet: text(one.subnet) ?? "",
      IPRange: text(one.ipRange) ?? "",
      Gateway: text(one.gateway) ?? "",
      AuxAddress: stringMap(one.auxAddress) ?? {},
    })) as unknown as Array<{ [key: string]: string }>,
    Options: stringMap(inputs.ipamOptions) ?? {},
  };
}

export const networks: Resource = {
  token: "docker:index/network:Network",
  shape: networkShape,
  schemaVersion: 1,
  timeouts: [],
  named: true,
  alwaysDeletesFirst: false,

  async create(context, inputs) {
    try {
      const network = await context.docker.createNetwork({
        Name: text(inputs.name) ?? "",
        Labels: labelMap(inputs.labels) ?? {},
        Driver: text(inputs.driver) ?? "bridge",
        Options: stringMap(inputs.options) ?? {},
        Internal: flag(inputs.internal),
        Attachable: flag(inputs.attachable),
        Ingress: flag(inputs.ingress),
        EnableIPv6: flag(inputs.ipv6),
        IPAM: addressing(inputs),
      });
      const made = await networks.read(context, network.id, inputs);
      if (made !== undefined) return made;
    } catch (error) {
      throw new Error(`Unable to create network: ${engineMessage(error)}`);
    }
    throw new Error("Unable to create network: it vanished at once");
  },

  async read(context, id, before) {
    const found = await orGone(context.docker.getNetwork(id).inspect());
    if (found === undefined) return undefined;
    const configs = found.IPAM?.Config ?? [];
    const state = {
      ...before,
      name: found.Name,
      labels: labelList(found.Labels),
      driver: found.Driver,
      internal: found.Internal,
      attachable: found.Attachable,
      ingress: found.Ingress,
      ipv6: found.EnableIPv6,
      ipamDriver: found.IPAM?.Driver ?? "default",
      ipamOptions: found.IPAM?.Options ?? {},
      ipamConfigs: configs.map((one) => ({
        subnet: one.Subnet ?? "",
        ipRange: one.IPRange ?? "",
        gateway: one.Gateway ?? "",
        auxAddress: { ...one.AuxiliaryAddresses } as Record<string, string>,
      })),
      options: found.Options ?? {},
      scope: found.Scope,
    };
    return { id: found.Id, state };
  },

  /** Every property that can be set replaces the network. */
  async update() {},

  async remove(context, id) {
    await untilRemoved(`network ${id}`, async () => {
      try {
        await context.docker.getNetwork(id).remove();
        return true;
      } catch (error) {
        if (isGone(error)) return true;
        if (engineMessage(error).includes("has active endpoints")) return false;
        throw new Error(engineMessage(error));
      }
    });
  },
};
