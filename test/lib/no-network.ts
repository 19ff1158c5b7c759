import { Socket } from "node:net";

/**
 * Quick tests touch neither the network nor an engine: a connection that leaves this machine, or goes to Docker's socket,
 * fails the test that makes it.
 */
const connect = Socket.prototype.connect;
Socket.prototype.connect = function guarded(this: Socket, ...args: unknown[]): Socket {
  const target = targetOf(args);
  if (target !== undefined) throw new Error(`a quick test connects to ${target}: it belongs into a *.engine.test.ts`);
  return Reflect.apply(connect, this, args) as Socket;
};

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|::1|0\.0\.0\.0|::)$/;

function targetOf(args: readonly unknown[]): string | undefined {
  // Node's own callers hand over their normalized arguments as one list.
  const first: unknown = Array.isArray(args[0]) ? args[0][0] : args[0];
  if (typeof first === "string") return first.endsWith("docker.sock") ? first : undefined;
  if (typeof first !== "object" || first === null) return undefined;
  const path = "path" in first ? first.path : undefined;
  if (typeof path === "string") return path.endsWith("docker.sock") ? path : undefined;
  const host = "host" in first && typeof first.host === "string" ? first.host : "localhost";
  return LOOPBACK.test(host) ? undefined : host;
}
