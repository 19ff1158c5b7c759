import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import type Docker from "dockerode";
import { extract as extractTar } from "tar-stream";
import type { DockerOutputs, GcpVmOutputs, KubernetesOutputs } from "../../stacks/outputs.ts";
import { engineClient } from "../../stacks/targets/docker/engine.ts";
import { EXIT, UserError } from "./errors.ts";

/** What a container is doing, in the engine's words and for people. */
export interface ContainerState {
  readonly exists: boolean;
  /** Runs, or is between two tries. */
  readonly running: boolean;
  /** Runs now, so that a program can be run in it. */
  readonly reachable: boolean;
  /** `healthy`, `starting`, `unhealthy`; for a container that ended, its exit code; `missing`. */
  readonly health: string;
  readonly startedAt: string | undefined;
  readonly exitCode: number | undefined;
  readonly restarts: number;
  /** What the last health check said. */
  readonly lastCheck: string | undefined;
}

const MISSING: ContainerState = {
  exists: false,
  running: false,
  reachable: false,
  health: "missing",
  startedAt: undefined,
  exitCode: undefined,
  restarts: 0,
  lastCheck: undefined,
};

function onVm({ stack, cloud }: Pick<GcpVmOutputs, "stack" | "cloud">): UserError {
  return new UserError(
    [
      {
        path: `stack ${stack}`,
        value: cloud.group,
        reason: "is on a VM of Google Cloud, whose engine this command cannot reach",
        remedy: `log in there: gcloud compute ssh --tunnel-through-iap --project ${cloud.project} with the instance that gs://${cloud.bucket}/status/vm.json names`,
      },
    ],
    EXIT.stack,
    "stack",
  );
}

function inCluster({ stack, cluster }: Pick<KubernetesOutputs, "stack" | "cluster">): UserError {
  const context = cluster.context === undefined ? "" : ` --context ${cluster.context}`;
  return new UserError(
    [
      {
        path: `stack ${stack}`,
        value: cluster.namespace,
        reason: "is in a Kubernetes cluster, which has no engine that this command could ask",
        remedy: `look there: kubectl${context} --namespace ${cluster.namespace} get jobsets,pods`,
      },
    ],
    EXIT.stack,
    "stack",
  );
}

/** The engine on which a stack's containers are. */
export class Containers {
  readonly client: Docker;

  /** @throws UserError for a stack whose engine is on a VM that no tunnel leads to. */
  constructor(
    outputs:
      | Pick<DockerOutputs, "engine">
      | Pick<GcpVmOutputs, "target" | "stack" | "cloud">
      | Pick<KubernetesOutputs, "target" | "stack" | "cluster">,
  ) {
    if ("cloud" in outputs) throw onVm(outputs);
    if ("cluster" in outputs) throw inCluster(outputs);
    this.client = engineClient(outputs.engine);
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

  /** A file's text, whether the container runs or not; undefined where there is none. */
  async readFile(container: string, path: string): Promise<string | undefined> {
    const archive = await this.client.getContainer(container).getArchive({ path }).catch(ifMissing(undefined));
    return archive === undefined ? undefined : await firstFile(archive);
  }

  /** Runs a program in a running container. */
  async run(
    container: string,
    command: readonly string[],
  ): Promise<{ exitCode: number; stdout: string; stderr: string }> {
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

  /** The last lines that a container printed. */
  async lastLines(container: string, lines: number): Promise<string> {
    const logs = await this.client
      .getContainer(container)
      .logs({ stdout: true, stderr: true, tail: lines })
      .catch(ifMissing(Buffer.alloc(0)));
    return demultiplex(logs);
  }

  /** Follows what a container prints until it ends or the signal is given. */
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
}

function ifMissing<T>(value: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof Error && "statusCode" in error && error.statusCode === 404) return value;
    throw error;
  };
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
