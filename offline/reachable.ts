import { versions } from "./recipes.ts";

/** What an official host may offer. */
export type OfficialOffer =
  | "pulumi"
  | "docker-build-plugin"
  | "docker-plugin"
  | "gcp-plugin"
  | "kubernetes-plugin"
  | "registry";

export interface ReachableOptions {
  /** Replaces the address that is asked, by offer; for the tests. */
  readonly addresses?: Partial<Record<OfficialOffer, string>>;
  readonly timeoutMs?: number;
}

function platform(): string {
  return `${process.platform}-${process.arch === "x64" ? (process.platform === "win32" ? "x64" : "amd64") : process.arch}`;
}

/** The very file that would be downloaded, so that a host which answers but refuses it does not count. */
export function officialAddress(offer: OfficialOffer): string {
  const plugins = "https://get.pulumi.com/releases/plugins";
  switch (offer) {
    case "pulumi":
      return `https://get.pulumi.com/releases/sdk/pulumi-v${versions.pulumi}-${platform().replace("amd64", "x64")}.tar.gz`;
    case "docker-build-plugin":
      return `${plugins}/pulumi-resource-docker-build-v${versions.dockerBuildPlugin}-${platform()}.tar.gz`;
    case "docker-plugin":
      return `${plugins}/pulumi-resource-docker-v${versions.dockerPlugin}-${platform()}.tar.gz`;
    case "kubernetes-plugin":
      return `${plugins}/pulumi-resource-kubernetes-v${versions.kubernetesPlugin}-${platform()}.tar.gz`;
    case "gcp-plugin":
      return `${plugins}/pulumi-resource-gcp-v${versions.gcpPlugin}-${platform()}.tar.gz`;
    case "registry":
      return "https://registry-1.docker.io/v2/";
  }
}

/**
 * Whether the official host of an offer answers, within three seconds. A registry that asks for a token (401) is
 * reachable; a proxy that refuses (403), a captive portal that answers something else with an error, and silence are not.
 */
export async function officialReachable(offer: OfficialOffer, options: ReachableOptions = {}): Promise<boolean> {
  const address = options.addresses?.[offer] ?? officialAddress(offer);
  try {
    const response = await fetch(address, {
      method: offer === "registry" ? "GET" : "HEAD",
      redirect: "follow",
      signal: AbortSignal.timeout(options.timeoutMs ?? 3000),
    });
    await response.body?.cancel();
    if (offer === "registry") return response.headers.has("docker-distribution-api-version");
    return response.ok && !(response.headers.get("content-type") ?? "").startsWith("text/html");
  } catch {
    return false;
  }
}
