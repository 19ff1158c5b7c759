import { PassThrough } from "node:stream";
import type Docker from "dockerode";
import type { Mount, Workload } from "../../stacks/plan/types.ts";
import { type Naming, networkName, volumeName } from "../../stacks/targets/docker/render.ts";
import { EXIT, machineError, UserError } from "./errors.ts";
import type { Ended, OneOff } from "./workloads.ts";

const LABEL = "dev.tunestack.one-off";

/** A file or folder of the machine that a workload mounts. */
export type HostMount = Exclude<Mount, { readonly kind: "volume" }>;

/**
 * Runs a workload in a container of its own until it ends, and removes the container. It is hardened as the stack's
 * services are, and has no owner's label: the stack declares it not, and would take it for a left-over.
 * @param sourceOf tells where the engine finds a file that is mounted.
 */
export async function runOneOff(
  client: Docker,
  naming: Naming,
  { container: name, image, workload, tell, collect }: OneOff,
  sourceOf: (mount: HostMount) => string = ({ source }) => source,
): Promise<Ended> {
  await clearAway(client, name);
  const container = await create(client, renderOneOff(name, image, workload, naming, sourceOf));
  const stop = () => void container.stop({ t: workload.stopGraceSeconds }).catch(() => undefined);
  process.once("SIGINT", stop).once("SIGTERM", stop);
  try {
    const ended = await attend(client, container, tell);
    if (ended.exitCode === 0) await collect?.((path) => container.getArchive({ path }), ended);
    return ended;
  } finally {
    process.off("SIGINT", stop).off("SIGTERM", stop);
    await container.remove({ force: true, v: true }).catch(() => undefined);
  }
}

async function attend(client: Docker, container: Docker.Container, tell: (line: string) => void): Promise<Ended> {
  const stream = await container.attach({ stream: true, stdout: true, stderr: true });
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  client.modem.demuxStream(stream, stdout, stderr);
  const out = collectLines(stdout, () => undefined);
  const err = collectLines(stderr, tell);
  await container.start();
  const { StatusCode } = (await container.wait()) as { StatusCode: number };
  return { exitCode: StatusCode, stdout: out(), stderr: err() };
}

function collectLines(stream: PassThrough, tell: (line: string) => void): () => string {
  let text = "";
  let rest = "";
  stream.on("data", (chunk: Buffer) => {
    const piece = chunk.toString("utf8");
    text += piece;
    const lines = (rest + piece).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) tell(line);
  });
  return () => text;
}

/** The container as the engine's own request; pure. */
export function renderOneOff(
  name: string,
  image: string,
  workload: Workload,
  naming: Naming,
  sourceOf: (mount: HostMount) => string = ({ source }) => source,
): Docker.ContainerCreateOptions {
  const { memoryBytes, sharedMemoryBytes, processLimit } = workload;
  const user = workload.user ?? "";
  return {
    name,
    Image: image,
    Cmd: [...(workload.command ?? [])],
    Env: Object.entries(workload.environment).map(([key, value]) => `${key}=${value}`),
    User: user,
    Labels: { [LABEL]: workload.command?.[1] ?? "" },
    StopTimeout: workload.stopGraceSeconds,
    HostConfig: {
      Mounts: workload.mounts.map((mount) => renderMount(mount, naming, sourceOf)),
      NetworkMode: networkName(naming),
      ReadonlyRootfs: workload.readOnly,
      Tmpfs: Object.fromEntries(
        workload.scratch.map(({ path, bytes }) => {
          const whose = path === "/tmp" ? "mode=1777" : `mode=0700,uid=${user.replace(":", ",gid=")}`;
          return [path, `rw,nosuid,nodev,size=${bytes},${whose}`];
        }),
      ),
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges:true"],
      Init: true,
      PidsLimit: processLimit,
      LogConfig: { Type: "json-file", Config: { "max-size": "10m", "max-file": "3" } },
      ...(memoryBytes === undefined ? {} : { Memory: memoryBytes, MemorySwap: memoryBytes }),
      ...(sharedMemoryBytes === undefined ? {} : { ShmSize: sharedMemoryBytes }),
      ...(workload.gpu === "none" ? {} : { DeviceRequests: [{ Count: -1, Capabilities: [["gpu"]] }] }),
    },
  };
}

function renderMount(mount: Mount, naming: Naming, sourceOf: (mount: HostMount) => string): Docker.MountSettings {
  switch (mount.kind) {
    case "volume":
      return {
        Type: "volume",
        Source: volumeName(naming, mount.volume),
        Target: mount.path,
        ReadOnly: mount.readOnly,
      };
    case "host":
    case "secret":
      return { Type: "bind", Source: sourceOf(mount), Target: mount.path, ReadOnly: true };
  }
}

async function clearAway(client: Docker, name: string): Promise<void> {
  const before = client.getContainer(name);
  const state = await before.inspect().then(
    ({ State }) => State,
    (error: unknown) => {
      if (isStatus(error, 404)) return undefined;
      throw error;
    },
  );
  if (state === undefined) return;
  if (state.Running) {
    throw new UserError(
      [
        {
          path: `container ${name}`,
          reason: "is at work already",
          remedy: `wait for it (docker logs --follow ${name}), or end it: docker stop ${name}`,
        },
      ],
      EXIT.refused,
      "container",
    );
  }
  await before.remove({ force: true });
}

async function create(client: Docker, request: Docker.ContainerCreateOptions): Promise<Docker.Container> {
  try {
    return await client.createContainer(request);
  } catch (error) {
    if (!isStatus(error, 404)) throw error;
    throw machineError({
      path: "image",
      value: request.Image,
      reason: "is not on this engine any more",
      remedy: "npm start makes it again",
    });
  }
}

function isStatus(error: unknown, status: number): boolean {
  return error instanceof Error && "statusCode" in error && error.statusCode === status;
}
