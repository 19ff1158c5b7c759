import { isUtf8 } from "node:buffer";
import { basename } from "node:path";
import type { Mount, Plan } from "../stacks/plan/types.ts";
import type { ClusterLayout, Resolver } from "./layout.ts";
import { inNamespace } from "./names.ts";
import type { ConfigMapObject, Rendered } from "./objects.ts";

type HostMount = Extract<Mount, { readonly kind: "host" }>;

/** Files of this machine that a plan's containers read, each mount as a config map. */
export function renderInputs(plan: Plan, layout: ClusterLayout, resolve: Resolver): readonly Rendered[] {
  const workloads = [...plan.services, ...(plan.run === undefined ? [] : [plan.run.workload])];
  const mounts = workloads.flatMap((workload) => workload.mounts.filter(isHost));
  return [...new Map(mounts.map((mount) => [inputName(mount), mount])).values()].map((mount) => ({
    logicalName: inputName(mount),
    object: renderInput(mount, layout, resolve),
  }));
}

function isHost(mount: Mount): mount is HostMount {
  return mount.kind === "host";
}

function renderInput(mount: HostMount, layout: ClusterLayout, resolve: Resolver): ConfigMapObject {
  const files = keyed(mount, resolve);
  const text = files.filter(({ content }) => isUtf8(content));
  const binary = files.filter(({ content }) => !isUtf8(content));
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: inNamespace(layout, inputName(mount)),
    ...(text.length === 0
      ? {}
      : { data: Object.fromEntries(text.map(({ key, content }) => [key, content.toString("utf8")])) }),
    ...(binary.length === 0
      ? {}
      : { binaryData: Object.fromEntries(binary.map(({ key, content }) => [key, content.toString("base64")])) }),
  };
}

/** The volume of an input and its place in the container. */
export function renderInputMount(mount: HostMount, resolve: Resolver) {
  const name = inputName(mount);
  const files = keyed(mount, resolve);
  const [only] = files;
  const isFile = only !== undefined && files.length === 1 && only.path === "";
  const items = files.map(({ key, path }) => ({ key, path: isFile ? basename(mount.path) : path }));
  return {
    volume: { name, configMap: { name, items } },
    mount: {
      name,
      mountPath: mount.path,
      ...(isFile ? { subPath: basename(mount.path) } : {}),
      readOnly: true,
    },
  };
}

/** Keys of config maps take no slashes, so files are numbered. */
function keyed({ source }: HostMount, resolve: Resolver) {
  return [...resolve.files(source)].map(([path, content], index) => ({ key: `file-${index}`, path, content }));
}

/** By the place in the container, which is the same whatever lies there. Example: `input-data` for `/data/notes.jsonl`. */
function inputName({ path }: HostMount): string {
  return `input-${(path.split("/")[1] ?? "").replaceAll(/[^a-z0-9]+/g, "-")}`;
}
