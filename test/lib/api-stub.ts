import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import { stringify } from "yaml";

/** What the stub answers to a path: an object, or a status without one. */
export type Answers = (path: string, method: string, body: unknown) => object | number | undefined;

const STDOUT = 1;
const STDERR = 2;
const STATUS = 3;
const CLOSE = 255;

/**
 * An API server for what quick tests need of one: answers of the test's own, and programs, logs and ports by the
 * protocols of Kubernetes. What is run in a pod runs here.
 */
export class ApiStub {
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({ noServer: true, handleProtocols: ([first = ""]) => first });

  private constructor(answers: Answers) {
    this.#server = createServer((request, response) => void answer(answers, request, response));
    this.#server.on("upgrade", (request: IncomingMessage, socket, head) => {
      const { pathname, searchParams } = new URL(request.url ?? "", "http://stub");
      if (answers(pathname, "CONNECT", undefined) === 404) return void socket.end("HTTP/1.1 404 Not Found\r\n\r\n");
      this.#sockets.handleUpgrade(request, socket, head, (channel) =>
        pathname.endsWith("/exec") ? run(channel, searchParams) : forward(channel, Number(searchParams.get("ports"))),
      );
    });
  }

  static async start(answers: Answers = () => undefined): Promise<ApiStub> {
    const stub = new ApiStub(answers);
    await new Promise<void>((resolve) => stub.#server.listen(0, "127.0.0.1", resolve));
    return stub;
  }

  get address(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** A kubeconfig with the context `lab` that leads here. */
  kubeconfig(user: object = { token: "t" }): string {
    return kubeconfigOf(this.address, user);
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

export function kubeconfigOf(server: string, user: object = { token: "t" }): string {
  return stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "lab", cluster: { server, "insecure-skip-tls-verify": true } }],
    users: [{ name: "me", user }],
    contexts: [{ name: "lab", context: { cluster: "lab", user: "me" } }],
    "current-context": "lab",
  });
}

async function answer(answers: Answers, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const text = Buffer.concat(parts).toString("utf8");
  const url = new URL(request.url ?? "", "http://stub");
  if (url.pathname.endsWith("/log")) return log(url.searchParams, response);
  const given = answers(url.pathname, request.method ?? "", text === "" ? undefined : JSON.parse(text)) ?? 404;
  const status = typeof given === "number" ? given : 200;
  const body =
    typeof given === "number"
      ? { kind: "Status", status: "Failure", code: given, message: `no ${url.pathname}` }
      : given;
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

/** The log of a container is the file of its name. */
function log(query: URLSearchParams, response: ServerResponse): void {
  const follow = query.get("follow") === "true" ? ["-f"] : [];
  const tail = spawn("tail", ["-n", query.get("tailLines") ?? "10", ...follow, query.get("container") ?? ""]);
  response.writeHead(200);
  tail.stdout.pipe(response);
  response.on("close", () => tail.kill());
}

function run(channel: WebSocket, query: URLSearchParams): void {
  const [program = "", ...args] = query.getAll("command");
  const child = spawn(program, args);
  const send = (stream: number, data: Buffer) => channel.send(Buffer.concat([Buffer.from([stream]), data]));
  child.stdout.on("data", (data: Buffer) => send(STDOUT, data));
  child.stderr.on("data", (data: Buffer) => send(STDERR, data));
  child.stdin.on("error", () => undefined);
  if (query.get("stdin") === "true") feed(channel, child);
  else child.stdin.end();
  child.on("close", (code) => {
    if (code === null) return channel.terminate();
    send(STATUS, Buffer.from(JSON.stringify(statusOf(code))));
    channel.close();
  });
}

function feed(channel: WebSocket, { stdin }: ChildProcessWithoutNullStreams): void {
  channel.on("message", (data: Buffer) => {
    if (data[0] === CLOSE) stdin.end();
    else stdin.write(data.subarray(1));
  });
}

function statusOf(code: number): object {
  if (code === 0) return { status: "Success" };
  const causes = [{ reason: "ExitCode", message: String(code) }];
  return { status: "Failure", reason: "NonZeroExitCode", details: { causes } };
}

/** The first message of each stream is the port that it is of. */
function forward(channel: WebSocket, port: number): void {
  const socket = connect(port, "127.0.0.1");
  for (const stream of [0, 1]) channel.send(Buffer.from([stream, port % 256, port >> 8]));
  socket.on("data", (data) => channel.send(Buffer.concat([Buffer.from([0]), data])));
  socket.on("error", () => channel.close());
  socket.on("close", () => channel.close());
  channel.on("message", (data: Buffer) => data[0] === 0 && socket.write(data.subarray(1)));
  channel.on("close", () => socket.destroy());
}
