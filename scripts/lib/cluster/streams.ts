import { get as getPlain, type IncomingMessage } from "node:http";
import { get } from "node:https";
import { createServer, type Socket as NetworkSocket } from "node:net";
import { PassThrough, Readable, Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { Exec, type KubeConfig, PortForward, type V1Status } from "@kubernetes/client-node";
import { atPort } from "../reach.ts";
import type { Ended, Reached } from "../workloads.ts";

/** A container of a pod. */
export interface PodPlace {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
}

/** What is used of the WebSocket that a program is run through. */
interface Channel {
  readonly bufferedAmount: number;
  pause(): void;
  resume(): void;
  ping(): void;
  close(): void;
  on(event: "close" | "error", listener: () => void): void;
}

/** Load balancers on the way cut what is silent for a minute or more. */
const PING_MS = 20_000;
/** So much waits in memory for a slow disk or network. */
const BUFFER_BYTES = 4 * 2 ** 20;
const DRAIN_MS = 5;

export interface Execution {
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** The exit code; undefined where the connection ended before the program did. */
  readonly exitCode: Promise<number | undefined>;
}

/**
 * Starts a program in a running container. Neither end is sent more than it takes.
 * @param stdin what the program reads; undefined gives it nothing.
 */
export async function execute(
  config: KubeConfig,
  { namespace, pod, container }: PodPlace,
  command: readonly string[],
  stdin?: Readable,
): Promise<Execution> {
  let socket: Channel | undefined;
  const stdout = throttled(() => socket);
  const stderr = throttled(() => socket);
  const input = stdin === undefined ? null : new Readable({ read: () => undefined });
  let status: V1Status | undefined;
  const take = (told: V1Status) => {
    status = told;
  };
  const exec = new Exec(config);
  const args = [...command];
  const opened: Channel = await exec.exec(
    ...([namespace, pod, container, args, stdout.into, stderr.into, input, false] as const),
    take,
  );
  socket = opened;
  const pings = setInterval(() => opened.ping(), PING_MS);
  const exitCode = new Promise<number | undefined>((resolve) => {
    opened.on("close", () => {
      clearInterval(pings);
      stdout.into.end();
      stderr.into.end();
      resolve(status === undefined ? undefined : exitCodeOf(status));
    });
  });
  // What is wrong with the connection closes it.
  opened.on("error", () => undefined);
  if (stdin !== undefined && input !== null) void feed(stdin, input, opened);
  return { stdout: stdout.out, stderr: stderr.out, exitCode };
}

/** What the channel writes into and what is read of it: the channel pauses while its reader does not keep up. */
function throttled(socket: () => Channel | undefined): { readonly into: Writable; readonly out: Readable } {
  const out = new PassThrough({ highWaterMark: BUFFER_BYTES });
  out.on("drain", () => socket()?.resume());
  const into = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      if (!out.write(chunk)) socket()?.pause();
      done();
    },
    final: (done) => {
      out.end();
      done();
    },
  });
  return { into, out };
}

async function feed(from: Readable, to: Readable, socket: Channel): Promise<void> {
  try {
    for await (const chunk of from) {
      to.push(chunk);
      while (socket.bufferedAmount > BUFFER_BYTES) await sleep(DRAIN_MS);
    }
    to.push(null);
  } catch {
    // What cannot be read cannot be sent: the program sees its input end short, and says so.
    socket.close();
  }
}

/** Exit code of a program, as the API server tells it: https://kubernetes.io/docs/reference/using-api (Status). */
export function exitCodeOf({ status, details }: V1Status): number {
  if (status === "Success") return 0;
  const told = details?.causes?.find(({ reason }) => reason === "ExitCode")?.message;
  return told === undefined ? 1 : Number(told);
}

/** Runs a program until it ends, and keeps what it says. An end that nobody told of is 137: its container is gone. */
export async function runToEnd(config: KubeConfig, place: PodPlace, command: readonly string[]): Promise<Ended> {
  const { stdout, stderr, exitCode } = await execute(config, place, command);
  const [out, err, code] = await Promise.all([text(stdout), text(stderr), exitCode]);
  return { exitCode: code ?? KILLED, stdout: out, stderr: err };
}

export const KILLED = 137;

/** What a container printed. @param lines how many of the last. */
export async function readLog(config: KubeConfig, place: PodPlace, lines: number): Promise<string> {
  return await text(await openLog(config, place, { tailLines: String(lines) }));
}

/** Copies what a container prints to a stream, until it ends or the signal is given. */
export async function followLog(
  config: KubeConfig,
  place: PodPlace,
  lines: number,
  to: Writable,
  signal: AbortSignal,
): Promise<void> {
  const log = await openLog(config, place, { tailLines: String(lines), follow: "true" }, signal);
  log.pipe(to, { end: false });
  await new Promise<void>((resolve) => {
    log.once("close", resolve);
    log.once("error", () => resolve());
  });
}

/** The package's own way to logs ends one that is silent for five minutes. */
async function openLog(
  config: KubeConfig,
  { namespace, pod, container }: PodPlace,
  asked: Readonly<Record<string, string>>,
  signal?: AbortSignal,
): Promise<IncomingMessage> {
  const query = new URLSearchParams({ container, ...asked });
  const url = new URL(`${config.getCurrentCluster()?.server}/api/v1/namespaces/${namespace}/pods/${pod}/log?${query}`);
  const options = signal === undefined ? {} : { signal };
  await config.applyToHTTPSOptions(options);
  return await new Promise((resolve, reject) => {
    const request = (url.protocol === "http:" ? getPlain : get)(url, options, (answer) => {
      if (answer.statusCode === 200) return resolve(answer);
      void text(answer).then((said) => reject(new Error(`Unexpected server response: ${answer.statusCode}: ${said}`)));
    });
    request.on("error", reject);
  });
}

/**
 * Takes connections on a port of 127.0.0.1 and hands each on to a port of a pod.
 * @param podOf finds the pod for each anew, since it is replaced now and then.
 */
export async function forwardPort(
  config: KubeConfig,
  url: string,
  localPort: number,
  podOf: () => Promise<{ readonly namespace: string; readonly pod: string; readonly port: number } | undefined>,
): Promise<Reached> {
  const server = createServer((socket) => void connect(config, socket, podOf));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(localPort, "127.0.0.1", resolve);
  });
  return { url: atPort(url, localPort), ended: new Promise((resolve) => server.once("close", resolve)) };
}

async function connect(
  config: KubeConfig,
  socket: NetworkSocket,
  podOf: Parameters<typeof forwardPort>[3],
): Promise<void> {
  socket.on("error", () => socket.destroy());
  try {
    const at = await podOf();
    if (at === undefined) return void socket.destroy();
    const errors = new PassThrough();
    errors.once("data", () => socket.destroy());
    const opened = await new PortForward(config).portForward(at.namespace, at.pod, [at.port], socket, errors, socket);
    const channel = opened as Channel;
    const pings = setInterval(() => channel.ping(), PING_MS);
    channel.on("close", () => {
      clearInterval(pings);
      socket.end();
    });
    socket.once("close", () => channel.close());
  } catch {
    // The browser shows that nobody answers, and tries again.
    socket.destroy();
  }
}
