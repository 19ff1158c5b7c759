import { spawn } from "node:child_process";
import { isRemote } from "../../stacks/targets/docker/engine.ts";
import { machineError } from "./errors.ts";
import { endWithThisCommand, untilListening } from "./tunnel.ts";
import type { Reached } from "./workloads.ts";

/**
 * The way to a service's port on an engine: none where the engine is this machine's, SSH where it is reached by that.
 * @throws UserError for an engine on another machine that SSH does not lead to.
 */
export async function reachOnEngine(engine: string | undefined, url: string, localPort: number): Promise<Reached> {
  if (!isRemote(engine)) return { url, ended: undefined };
  const host = new URL(engine);
  if (host.protocol !== "ssh:") {
    throw machineError({
      path: "docker.host",
      value: engine,
      reason: "is another machine's, whose ports are open on its own loopback address alone",
      remedy: `ssh -L ${localPort}:127.0.0.1:${new URL(url).port} ${host.hostname}, or set docker.host to ssh://you@${host.hostname}`,
    });
  }
  const target = `${host.username === "" ? "" : `${host.username}@`}${host.hostname}`;
  const child = spawn(
    "ssh",
    [
      ...(host.port === "" ? [] : ["-p", host.port]),
      ...[
        "-N",
        "-o",
        "ExitOnForwardFailure=yes",
        "-L",
        `127.0.0.1:${localPort}:127.0.0.1:${new URL(url).port}`,
        target,
      ],
    ],
    { stdio: ["inherit", "ignore", "inherit"] },
  );
  endWithThisCommand(child);
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  await untilListening(localPort, ended, `ssh to ${target}`);
  return { url: atPort(url, localPort), ended };
}

/** The same address on another port. */
export function atPort(url: string, port: number): string {
  const changed = new URL(url);
  changed.port = String(port);
  return changed.href;
}
