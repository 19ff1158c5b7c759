import * as grpc from "@grpc/grpc-js";

/** Pulumi's own limit for one message: states with large outputs go over gRPC's default of 4 MiB. */
const maximumMessageBytes = 400 * 1024 * 1024;

export const grpcOptions: grpc.ChannelOptions = {
  "grpc.max_receive_message_length": maximumMessageBytes,
  "grpc.max_send_message_length": maximumMessageBytes,
};

/** Ends this process once the process that started it is gone, so that a killed engine leaves nothing running. */
function endWithParent(onEnd: () => void): void {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    onEnd();
    process.exit(1);
  }, 500);
  timer.unref();
}

/**
 * Serves a Pulumi plugin as the engine expects it: a free port on the loopback address, told as the first line of
 * standard output. `onEnd` runs when the engine stops or loses the plugin.
 */
export async function servePlugin(
  register: (server: grpc.Server) => void,
  onEnd: () => void = () => {},
): Promise<void> {
  const server = new grpc.Server(grpcOptions);
  register(server);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  const end = () => {
    onEnd();
    server.forceShutdown();
    process.exit(0);
  };
  process.on("SIGINT", end);
  process.on("SIGTERM", end);
  endWithParent(onEnd);
  process.stdout.write(`${port}\n`);
}

/** Turns a promise-returning function into a gRPC handler; what it throws becomes the call's status. */
export function unary<Request, Response>(
  handle: (request: Request, call: grpc.ServerUnaryCall<Request, Response>) => Promise<Response>,
): grpc.handleUnaryCall<Request, Response> {
  return (call, callback) => {
    handle(call.request, call).then(
      (response) => callback(null, response),
      (error: unknown) => callback(toServiceError(error)),
    );
  };
}

export function toServiceError(error: unknown): Partial<grpc.StatusObject> {
  if (typeof error === "object" && error !== null && "code" in error && typeof error.code === "number") {
    return error as Partial<grpc.StatusObject>;
  }
  return { code: grpc.status.UNKNOWN, details: error instanceof Error ? error.message : String(error) };
}

export function unimplemented(method: string): Partial<grpc.StatusObject> {
  return { code: grpc.status.UNIMPLEMENTED, details: `method ${method} not implemented` };
}

/** Runs a plugin's main function; a failure at the start is told in one line and ends the process. */
export function runPlugin(main: () => Promise<void>): void {
  main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  });
}
