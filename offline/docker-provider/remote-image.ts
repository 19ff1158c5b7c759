import type { ImageInspectInfo } from "dockerode";
import { engineMessage, findImage, isGone, orGone } from "./engine.ts";
import { flag, text } from "./read-properties.ts";
import type { Resource } from "./resource.ts";
import type { Properties } from "./shape.ts";
import { remoteImageShape } from "./shapes.ts";

/** The digest under which an image is known to the registry that its name points to; empty for a local one. */
export function repoDigest(name: string, digests: readonly string[]): string {
  const repository = name.replace(/@.*$/, "").replace(/:[^:/]*$/, "");
  return digests.find((one) => one.startsWith(`${repository}@`)) ?? digests[0] ?? "";
}

function imageState(before: Properties, image: ImageInspectInfo) {
  const name = text(before.name) ?? "";
  return {
    id: `${image.Id}${name}`,
    state: { ...before, imageId: image.Id, repoDigest: repoDigest(name, image.RepoDigests ?? []) },
  };
}

export const remoteImages: Resource = {
  token: "docker:index/remoteImage:RemoteImage",
  shape: remoteImageShape,
  schemaVersion: 0,
  timeouts: ["create", "update", "delete"],
  named: false,
  alwaysDeletesFirst: false,

  async create(context, inputs) {
    try {
      return imageState(inputs, await findImage(context.docker, text(inputs.name) ?? "", text(inputs.platform)));
    } catch (error) {
      throw new Error(`Unable to read Docker image into resource: ${engineMessage(error)}`);
    }
  },

  async read(context, _id, before) {
    const found = await orGone(context.docker.getImage(text(before.name) ?? "").inspect());
    return found === undefined ? undefined : imageState(before, found);
  },

  /** What can change without a replacement concerns only the removal. */
  async update() {},

  async remove(context, _id, state) {
    if (flag(state.keepLocally)) return;
    try {
      await context.docker.getImage(text(state.name) ?? "").remove({ force: flag(state.forceRemove) });
    } catch (error) {
      if (!isGone(error)) throw new Error(`Unable to remove Docker image: ${engineMessage(error)}`);
    }
  },
};
