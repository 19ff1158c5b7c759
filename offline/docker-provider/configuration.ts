import type { Problem } from "./check.ts";
import { defaultHost } from "./engine.ts";
import type { Properties } from "./shape.ts";

const covered = new Set(["host", "version", "pluginDownloadURL", "disableDockerDaemonCheck"]);

/** The engine's address: the setting, else DOCKER_HOST, else the socket of this machine. */
export function hostOf(configuration: Properties, environment: NodeJS.ProcessEnv = process.env): string {
  const { host } = configuration;
  if (typeof host === "string" && host !== "") return host;
  return environment.DOCKER_HOST ? environment.DOCKER_HOST : defaultHost;
}

export function checkConfig(given: Properties): readonly Problem[] {
  return Object.keys(given)
    .filter((name) => !covered.has(name) && !name.startsWith("__"))
    .map((path) => ({
      path,
      reason:
        "this stand-in of the Docker provider doesn't cover this setting; the official provider does, where it can be had",
    }));
}
