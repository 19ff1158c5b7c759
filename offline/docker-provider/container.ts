import type Docker from "dockerode";
import { createRequest, limits } from "./container-body.ts";
import { containerState } from "./container-state.ts";
import type { Change } from "./diff.ts";
import { engineMessage, findImage, isGone, orGone, statusOf } from "./engine.ts";
import { flag, integer, objects, strings, text } from "./read-properties.ts";
import { Incomplete, type Resource, type ResourceContext } from "./resource.ts";
import { isZero, type Properties } from "./shape.ts";
import { containerShape } from "./shapes.ts";

const shownLogLines = 20;

async function lastLogLines(container: Docker.Container, tty: boolean): Promise<string> {
  const raw = await container.logs({ stdout: true, stderr: true, follow: false, tail: shownLogLines });
  return tty ? raw.toString("utf8") : withoutFrames(raw);
}

/** Output of a container without terminal comes in frames of eight header bytes and a payload. */
function withoutFrames(raw: Buffer): string {
  let output = "";
  for (let at = 0; at + 8 <= raw.length; ) {
    const size = raw.readUInt32BE(at + 4);
    output += raw.subarray(at + 8, at + 8 + size).toString("utf8");
    at += 8 + size;
  }
  return output;
}

function refuseSubpath(inputs: Properties, apiVersion: string): void {
  const asks = objects(inputs.mounts).some((one) => one.type === "volume" && !isZero(one.volumeOptions));
  if (asks && apiVersion < "1.45")
    throw new Error("Setting VolumeOptions.Subpath requires docker version 1.45 or higher");
}

/**
 * Removes what an interrupted creation left: a container of the same name which was never started and which is what
 * would be created now. Any other container of that name is somebody's, and creating fails with the engine's words.
 */
async function removeLeftOver(docker: Docker, inputs: Properties): Promise<boolean> {
  const container = docker.getContainer(text(inputs.name) ?? "");
  const found = await orGone(container.inspect());
  if (found?.State.Status !== "created" || found.Config.Image !== inputs.image) return false;
  const wanted = new Set(strings(inputs.envs));
  if (![...wanted].every((one) => found.Config.Env.includes(one))) return false;
  await container.remove({ force: true });
  return true;
}

async function createContainer(docker: Docker, inputs: Properties): Promise<Docker.Container> {
  const request = createRequest(inputs);
  try {
    return await docker.createContainer(request);
  } catch (error) {
    if (statusOf(error) === 409 && (await removeLeftOver(docker, inputs))) return createContainer(docker, inputs);
    throw new Error(`Unable to create container: ${engineMessage(error)}`);
  }
}

async function joinNetworks(
  docker: Docker,
  container: Docker.Container,
  networks: readonly Properties[],
): Promise<void> {
  if (networks.length === 0) return;
  try {
    await docker.getNetwork("bridge").disconnect({ Container: container.id });
  } catch (error) {
    if (!engineMessage(error).includes("is not connected to the network bridge") && !isGone(error)) {
      throw new Error(`Unable to disconnect the default network: ${engineMessage(error)}`);
    }
  }
  for (const one of networks) {
    const name = text(one.name) ?? "";
    const options = strings(one.driverOpts).map((option) => option.split(/=(.*)/s).slice(0, 2));
    const EndpointConfig = {
      Aliases: [...strings(one.aliases)],
      IPAMConfig: {
        IPv4Address: text(one.ipv4Address) ?? "",
        IPv6Address: text(one.ipv6Address) ?? "",
        LinkLocalIPs: [...strings(one.linkLocalIps)],
      },
      MacAddress: text(one.macAddress) ?? "",
      DriverOpts: Object.fromEntries(options) as Record<string, string>,
      ...(integer(one.gwPriority) ? { GwPriority: integer(one.gwPriority) } : {}),
    };
    try {
      await docker.getNetwork(name).connect({ Container: container.id, EndpointConfig });
    } catch (error) {
      throw new Error(`Unable to connect to network '${name}': ${engineMessage(error)}`);
    }
  }
}

async function start(container: Docker.Container): Promise<void> {
  try {
    await container.start();
  } catch (error) {
    throw new Error(`Unable to start container: ${engineMessage(error)}`);
  }
}

/** Waits until the health check of a container passes; tells why when it does not within the time allowed. */
async function waitHealthy(container: Docker.Container, seconds: number): Promise<string | undefined> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const { State: state } = await container.inspect();
    if (state.Health === undefined || state.Health === null) {
      return "you have supplied a 'wait' argument, but the container does not have a healthcheck defined. Please remove the 'wait' argument or add a 'healthcheck' attribute";
    }
    if (state.Health.Status === "healthy") return undefined;
    if (Date.now() >= end || !state.Running) {
      const last = state.Health.Log?.at(-1)?.Output?.trim();
      return `container failed to be in healthy state${last ? `: ${last}` : ""}`;
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

async function followToEnd(container: Docker.Container, inputs: Properties): Promise<Properties> {
  await container.wait();
  if (!flag(inputs.logs)) return {};
  const raw = await container.logs({ stdout: true, stderr: true, follow: false });
  return { containerLogs: flag(inputs.tty) ? raw.toString("utf8") : withoutFrames(raw) };
}

/** A container that must run and does not is shown with its last words; the state then says that it doesn't run. */
async function warnWhenEnded(context: ResourceContext, container: Docker.Container, inputs: Properties): Promise<void> {
  if (!flag(inputs.start) || !flag(inputs.mustRun)) return;
  await new Promise((resolve) => setTimeout(resolve, 100));
  const { State: state } = await container.inspect();
  if (state.Running || state.Restarting) return;
  const lines = (await lastLogLines(container, flag(inputs.tty))).trimEnd();
  context.warn(
    `container ${text(inputs.name)} must run, but it ended right after its start with exit code ${state.ExitCode}` +
      (lines === "" ? " and no output" : `; its last lines:\n${lines}`),
  );
}

async function create(context: ResourceContext, inputs: Properties) {
  const { docker } = context;
  const image = text(inputs.image) ?? "";
  await findImage(docker, image).catch((error: unknown) => {
    throw new Error(`Unable to create container with image ${image}: ${engineMessage(error)}`);
  });
  refuseSubpath(inputs, await context.apiVersion());
  const container = await createContainer(docker, inputs);
  try {
    await joinNetworks(docker, container, objects(inputs.networksAdvanced));
    if (flag(inputs.start)) await start(container);
  } catch (error) {
    await container.remove({ force: true, v: true }).catch(() => undefined);
    throw error;
  }
  const unhealthy =
    flag(inputs.start) && flag(inputs.wait)
      ? await waitHealthy(container, integer(inputs.waitTimeout) ?? 60)
      : undefined;
  const ended = flag(inputs.attach) ? await followToEnd(container, inputs) : {};
  const state = containerState({ ...inputs, ...ended }, await container.inspect());
  if (unhealthy === undefined && !flag(inputs.attach)) await warnWhenEnded(context, container, inputs);
  if (unhealthy !== undefined) throw new Incomplete(container.id, state, unhealthy);
  return { id: container.id, state };
}

async function read(context: ResourceContext, id: string, before: Properties) {
  const found = await orGone(context.docker.getContainer(id).inspect());
  return found === undefined ? undefined : { id: found.Id, state: containerState(before, found) };
}

const changeable = new Set([
  "restart",
  "maxRetryCount",
  "cpuShares",
  "memory",
  "memoryReservation",
  "cpuSet",
  "memorySwap",
]);

async function update(
  context: ResourceContext,
  id: string,
  before: Properties,
  inputs: Properties,
  changes: readonly Change[],
) {
  const container = context.docker.getContainer(id);
  if (before.mustRun === false && flag(inputs.mustRun) && flag(inputs.start)) await start(container);
  if (changes.some(({ path }) => changeable.has(path))) {
    try {
      await container.update({ Memory: 0, MemoryReservation: 0, CpuShares: 0, CpusetCpus: "", ...limits(inputs) });
    } catch (error) {
      throw new Error(`Unable to update a container: ${engineMessage(error)}`);
    }
  }
}

async function remove(context: ResourceContext, id: string, state: Properties): Promise<void> {
  const container = context.docker.getContainer(id);
  const gone = (error: unknown) => isGone(error) || engineMessage(error).includes("is already in progress");
  if (!flag(state.attach)) {
    const seconds = Math.max(0, integer(state.destroyGraceSeconds) ?? 0);
    await container.stop({ t: seconds }).catch((error: unknown) => {
      if (!gone(error) && statusOf(error) !== 304) {
        throw new Error(`Error stopping container ${id}: ${engineMessage(error)}`);
      }
    });
  }
  await container.remove({ v: flag(state.removeVolumes), force: true }).catch((error: unknown) => {
    if (!gone(error)) throw new Error(`Error deleting container ${id}: ${engineMessage(error)}`);
  });
  await container.wait({ condition: flag(state.rm) ? "removed" : "not-running" }).catch((error: unknown) => {
    if (!gone(error)) throw new Error(`Error waiting for container removal '${id}': ${engineMessage(error)}`);
  });
}

export const containers: Resource = {
  token: "docker:index/container:Container",
  shape: containerShape,
  schemaVersion: 2,
  timeouts: ["create", "update", "delete"],
  named: true,
  alwaysDeletesFirst: true,
  create,
  read,
  update,
  remove,
};
