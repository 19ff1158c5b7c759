import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import type Docker from "dockerode";
import { extract as extractTar } from "tar-stream";
import type { StackInputs } from "../../stacks/settings/load.ts";
import { engineClient } from "../../stacks/targets/docker/engine.ts";
import { namingOf } from "./naming.ts";
import { type HostMount, runOneOff } from "./one-off.ts";
import { reachOnEngine } from "./reach.ts";
import {
  type ContainerState,
  type Ended,
  MISSING,
  type OneOff,
  type Reached,
  type ReachedService,
  type Workloads,
} from "./workloads.ts";

/** Where an engine's containers find what a workload mounts. */
export interface EnginePlace {
  /** Address of the engine; undefined is the local socket. */
  readonly engine?: string | undefined;
  /** Where on the engine's machine a file of this machine is; undefined where both are one. */
  readonly sourceOf?: (mount: HostMount) => string;
  /** Makes a container that is not there any more, and starts it; by default that is an error. */
  readonly revive?: (container: string) => Promise<void>;
  /** The way to a port of the engine's machine; by default the one that the engine's address tells. */
  readonly reach?: (url: string, localPort: number) => Promise<Reached>;
}

/** How often a file is asked for whose archive ends early. */
const READS = 3;

/** The containers on a Docker engine: of this machine, of another one, or of a VM at the end of a tunnel. */
export class Containers implements Workloads {
  readonly lookMs = 1000;
  readonly client: Docker;
  readonly #place: EnginePlace;

  constructor(place: EnginePlace) {
    this.#place = place;
    this.client = engineClient(place.engine);
  }

  async state(name: string): Promise<ContainerState> {
    const info = await this.client.getContainer(name).inspect().catch(ifMissing(undefined));
    if (info === undefined) return MISSING;
    const { State: state, RestartCount } = info;
    const reachable = state.Running && !state.Restarting;
    return {
      exists: true,
      running: state.Running || state.Restarting,
      reachable,
      health: reachable
        ? (state.Health?.Status ?? "running")
        : state.Restarting
          ? "restarting"
          : `exited (${state.ExitCode})`,
      startedAt: state.StartedAt,
      exitCode: state.Running ? undefined : state.ExitCode,
      restarts: RestartCount,
      lastCheck: state.Health?.Log?.at(-1)?.Output.trim(),
    };
  }

  async readFile(container: string, path: string): Promise<string | undefined> {
    for (let read = 1; ; read += 1) {
      const archive = await this.client.getContainer(container).getArchive({ path }).catch(ifMissing(undefined));
      if (archive === undefined) return undefined;
      try {
        return await firstFile(archive);
      } catch (error) {
        if (read === READS || !isCutOff(error)) throw error;
      }
    }
  }

  async run(container: string, command: readonly string[]): Promise<Ended> {
    const execution = await this.client
      .getContainer(container)
      .exec({ Cmd: [...command], AttachStdout: true, AttachStderr: true });
    const stream = await execution.start({});
    const stdout = new PassThrough();
    const stderr = new PassThrough();
    this.client.modem.demuxStream(stream, stdout, stderr);
    stream.on("end", () => {
      stdout.end();
      stderr.end();
    });
    const [out, err] = await Promise.all([text(stdout), text(stderr)]);
    const { ExitCode } = await execution.inspect();
    return { exitCode: ExitCode ?? 1, stdout: out, stderr: err };
  }

  async lastLines(container: string, lines: number): Promise<string> {
    const logs = await this.client
      .getContainer(container)
      .logs({ stdout: true, stderr: true, tail: lines })
      .catch(ifMissing(Buffer.alloc(0)));
    return demultiplex(logs);
  }

  async follow(container: string, lines: number, signal: AbortSignal): Promise<void> {
    const stream = await this.client
      .getContainer(container)
      .logs({ stdout: true, stderr: true, follow: true, tail: lines, abortSignal: signal });
    this.client.modem.demuxStream(stream, process.stdout, process.stderr);
    await new Promise<void>((resolve) => {
      stream.on("end", resolve);
      stream.on("close", resolve);
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  }

  async start(container: string): Promise<void> {
    const { revive } = this.#place;
    const start = this.client.getContainer(container).start();
    if (revive === undefined) await start;
    else if (await start.then(() => false, ifMissing(true))) await revive(container);
  }

  async stop(container: string, graceSeconds: number): Promise<void> {
    await this.client.getContainer(container).stop({ t: graceSeconds });
  }

  async restart(container: string): Promise<void> {
    await this.client.getContainer(container).restart();
  }

  async archive(container: string, path: string): Promise<NodeJS.ReadableStream> {
    return await this.client.getContainer(container).getArchive({ path });
  }

  async unpack(container: string, folder: string, archive: NodeJS.ReadableStream): Promise<void> {
    await this.client.getContainer(container).putArchive(archive, { path: folder });
  }

  async runOneOff(inputs: StackInputs, job: OneOff): Promise<Ended> {
    return await runOneOff(this.client, namingOf(inputs), job, this.#place.sourceOf);
  }

  async reach({ url }: ReachedService, localPort: number): Promise<Reached> {
    const { engine, reach } = this.#place;
    return await (reach === undefined ? reachOnEngine(engine, url, localPort) : reach(url, localPort));
  }
}

function ifMissing<T>(value: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof Error && "statusCode" in error && error.statusCode === 404) return value;
    throw error;
  };
}

/** Whether an archive ended early, as it does where its container ends or starts anew meanwhile. */
function isCutOff(error: unknown): boolean {
  return error instanceof Error && error.message === "Unexpected end of data";
}

async function firstFile(archive: NodeJS.ReadableStream): Promise<string | undefined> {
  const tar = archive.pipe(extractTar());
  let found: string | undefined;
  for await (const entry of tar) {
    const content = await text(entry);
    if (entry.header.type === "file") found ??= content;
  }
  return found;
}

/** Without a terminal the engine sends frames: kind (1 byte), 3 zeros, length (4 bytes, big-endian), text. */
function demultiplex(frames: Buffer): string {
  let position = 0;
  const parts: string[] = [];
  while (position + 8 <= frames.length) {
    const length = frames.readUInt32BE(position + 4);
    parts.push(frames.subarray(position + 8, position + 8 + length).toString("utf8"));
    position += 8 + length;
  }
  return parts.join("");
}
