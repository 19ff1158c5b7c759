import Docker from "dockerode";

export const defaultHost = "unix:///var/run/docker.sock";

/** A Docker engine by its address; only what needs no certificate and no tunnel. */
export function connect(host: string): Docker {
  const address = new URL(host);
  if (address.protocol === "unix:") return new Docker({ socketPath: address.pathname });
  if (address.protocol === "tcp:" || address.protocol === "http:") {
    return new Docker({ protocol: "http", host: address.hostname, port: Number(address.port || 2375) });
  }
  throw new Error(`docker host ${host}: this stand-in speaks unix:// and tcp:// only, without TLS and SSH`);
}

function field(error: unknown, name: string): unknown {
  return typeof error === "object" && error !== null ? Reflect.get(error, name) : undefined;
}

export function statusOf(error: unknown): number | undefined {
  const status = field(error, "statusCode");
  return typeof status === "number" ? status : undefined;
}

/** What the engine said, in the words that Docker's own client puts around it. */
export function engineMessage(error: unknown): string {
  const message = field(field(error, "json"), "message");
  if (typeof message === "string") return `Error response from daemon: ${message}`;
  const told = error instanceof Error ? /^\(HTTP code \d+\) .*? - (.*)$/s.exec(error.message)?.[1] : undefined;
  if (told !== undefined) return `Error response from daemon: ${told.trim()}`;
  const code = field(error, "code");
  if (code === "ENOENT" || code === "ECONNREFUSED" || code === "EACCES") {
    const reason = error instanceof Error ? error.message : String(error);
    const remedy = code === "EACCES" ? "add your user to the group docker" : "start it";
    return `the Docker engine cannot be reached (${reason}): ${remedy}, then run this again`;
  }
  return error instanceof Error ? error.message : String(error);
}

export function isGone(error: unknown): boolean {
  return statusOf(error) === 404;
}

/** What an inspection gives, or undefined where there is no such thing. */
export async function orGone<T>(inspection: Promise<T>): Promise<T | undefined> {
  try {
    return await inspection;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** The local image of a name or id; pulled when it is not there. */
export async function findImage(docker: Docker, name: string, platform?: string): Promise<Docker.ImageInspectInfo> {
  if (name === "") throw new Error("empty image name is not allowed");
  const local = await orGone(docker.getImage(name).inspect());
  if (local !== undefined) return local;
  try {
    const stream = await docker.pull(name, platform === undefined || platform === "" ? {} : { platform });
    await new Promise<void>((resolve, reject) => {
      docker.modem.followProgress(stream, (error) => (error === null ? resolve() : reject(error)));
    });
  } catch (error) {
    throw new Error(`unable to pull image ${name}: error pulling image ${name}: ${engineMessage(error)}`);
  }
  const pulled = await orGone(docker.getImage(name).inspect());
  if (pulled === undefined) throw new Error(`unable to find or pull image ${name}`);
  return pulled;
}
