import { chmod, mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { recipeFolder } from "../../offline/build.ts";
import { findDockerPlugin, provideBuildx } from "../../offline/buildx.ts";
import { exists } from "../../offline/cache.ts";
import { installOfficialCli } from "../../offline/official.ts";
import { officialAddress, officialReachable } from "../../offline/reachable.ts";
import { goRecipes, versions } from "../../offline/recipes.ts";
import { ensureDockerProvider, ensureLanguageHost, ensurePulumiCli, madeHere } from "../../offline/setup.ts";

let folder: string;
let server: Server | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tunestack-official-"));
});
afterEach(async () => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
  await rm(folder, { recursive: true, force: true });
});

async function serve(listener: RequestListener): Promise<string> {
  const started = createServer(listener);
  server = started;
  await new Promise<void>((resolve) => started.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(started.address() as AddressInfo).port}/file`;
}

const asks = (address: string) => officialReachable("pulumi", { addresses: { pulumi: address }, timeoutMs: 300 });

describe("whether an official host can be reached", () => {
  it("asks for the very file that would be downloaded", () => {
    expect(officialAddress("pulumi")).toContain(`/pulumi-v${versions.pulumi}-`);
    expect(officialAddress("docker-plugin")).toContain(`/pulumi-resource-docker-v${versions.dockerPlugin}-`);
    expect(officialAddress("docker-build-plugin")).toContain(`-docker-build-v${versions.dockerBuildPlugin}-`);
  });

  it("is true where the file is offered, also behind a redirect", async () => {
    const address = await serve((request, response) => {
      if (request.url === "/file") response.writeHead(302, { location: "/moved" }).end();
      else response.writeHead(200, { "content-type": "application/gzip" }).end();
    });
    expect(await asks(address)).toBe(true);
  });

  it.each([
    ["refuses (a proxy)", 403, "text/plain"],
    ["doesn't have it", 404, "text/plain"],
    ["answers a page of its own (a captive portal)", 200, "text/html; charset=utf-8"],
    ["is broken", 502, "text/plain"],
  ])("is false where the host %s", async (_why, status, type) => {
    const address = await serve((_request, response) => response.writeHead(status, { "content-type": type }).end());
    expect(await asks(address)).toBe(false);
  });

  it("is false where nobody answers in time, or nobody listens", async () => {
    const silent = await serve(() => {});
    const began = Date.now();
    expect(await asks(silent)).toBe(false);
    expect(Date.now() - began).toBeLessThan(2000);
    expect(await asks("http://127.0.0.1:9/file")).toBe(false);
  });

  it("takes a registry that asks for a token, and nothing that only looks like one", async () => {
    const registry = await serve((request, response) => {
      const headers = request.url === "/file" ? { "docker-distribution-api-version": "registry/2.0" } : {};
      response.writeHead(401, headers).end();
    });
    const asksRegistry = (address: string) => officialReachable("registry", { addresses: { registry: address } });
    expect(await asksRegistry(registry)).toBe(true);
    expect(await asksRegistry(registry.replace("/file", "/other"))).toBe(false);
  });
});

describe("what is there already", () => {
  const closed = { addresses: { pulumi: "http://127.0.0.1:9/", "docker-plugin": "http://127.0.0.1:9/" } };
  const options = () => ({
    pulumiHome: join(folder, "home"),
    cacheDir: join(folder, "cache"),
    report: () => {},
    reachable: closed,
  });
  const cli = () => join(folder, "home", "versions", versions.pulumi, "bin", "pulumi");

  async function put(path: string, text: string): Promise<void> {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
    await chmod(path, 0o755);
  }

  it("is left alone when it is official", async () => {
    await put(cli(), "official");
    expect(await ensurePulumiCli(options())).toEqual({ path: cli(), origin: "present" });
    expect(await readFile(cli(), "utf8")).toBe("official");
    expect(await madeHere(join(folder, "home"))).toEqual([]);
  });

  it("is taken from the cache when an earlier clone built it, and made once", async () => {
    const built = join(folder, "cache", await recipeFolder(goRecipes.pulumi), "pulumi");
    await put(built, "built");
    expect((await ensurePulumiCli(options())).origin).toBe("built");
    expect(await readFile(cli(), "utf8")).toBe("built");
    expect((await ensurePulumiCli(options())).origin).toBe("present");
    expect(await madeHere(join(folder, "home"))).toEqual(["Pulumi CLI"]);
  });

  it("is made anew when its recipe has changed", async () => {
    await put(cli(), "old build");
    await writeFile(`${cli()}.recipe`, "pulumi-3.0.0-0123456789ab\n");
    await put(join(folder, "cache", await recipeFolder(goRecipes.pulumi), "pulumi"), "built");
    expect((await ensurePulumiCli(options())).origin).toBe("built");
    expect(await readFile(cli(), "utf8")).toBe("built");
  });

  it("is fetched again when Pulumi's download of a plugin was interrupted", async () => {
    const plugin = join(
      folder,
      "home",
      "plugins",
      `resource-docker-v${versions.dockerPlugin}`,
      "pulumi-resource-docker",
    );
    await put(plugin, "half of it");
    expect((await ensureDockerProvider(options())).origin).toBe("present");
    await writeFile(`${dirname(plugin)}.partial`, "");
    expect((await ensureDockerProvider(options())).origin).toBe("built");
    expect((await ensureDockerProvider(options())).origin).toBe("present");
  });

  it("gives way to the official CLI as a whole, once that is there as a whole", async () => {
    await put(cli(), "built");
    await put(join(dirname(cli()), "pulumi-language-nodejs"), "stand-in");
    const home = { pulumiHome: join(folder, "home"), report: () => {} };
    expect(await installOfficialCli(home, () => Promise.reject(new Error("cut off")))).toBe(false);
    expect(await installOfficialCli(home, async () => {})).toBe(false);
    expect(await readFile(cli(), "utf8")).toBe("built");
    expect(await installOfficialCli(home, (root) => put(join(root, "bin", "pulumi"), "official"))).toBe(true);
    expect(await readFile(cli(), "utf8")).toBe("official");
    expect(await readdir(join(folder, "home", "versions"))).toEqual([versions.pulumi]);
    expect(await readdir(dirname(cli()))).toEqual(["pulumi"]);
  });

  it("makes the stand-ins as programs which the engine can start", async () => {
    const host = await ensureLanguageHost(options());
    const provider = await ensureDockerProvider(options());
    for (const { path } of [host, provider]) {
      expect(await readFile(path, "utf8")).toMatch(/^#!\/bin\/sh\nexec node "\$\{0%\/\*\}\/[a-z-]+\.cjs" "\$@"\n$/);
    }
    expect((await ensureDockerProvider(options())).origin).toBe("present");
  });
});

describe("buildx", () => {
  it("is found where Docker's programs look: extra folders, the configuration's own, the system's", async () => {
    const config = join(folder, "config");
    await mkdir(join(config, "cli-plugins"), { recursive: true });
    expect(await findDockerPlugin("docker-buildx", config, [join(folder, "system")])).toBeUndefined();
    await mkdir(join(folder, "system"));
    await writeFile(join(folder, "system", "docker-buildx"), "");
    expect(await findDockerPlugin("docker-buildx", config, [join(folder, "system")])).toBe(
      join(folder, "system", "docker-buildx"),
    );
    await writeFile(join(config, "cli-plugins", "docker-buildx"), "");
    expect(await findDockerPlugin("docker-buildx", config, [join(folder, "system")])).toBe(
      join(config, "cli-plugins", "docker-buildx"),
    );
    await mkdir(join(folder, "extra"));
    await writeFile(join(folder, "extra", "docker-buildx"), "");
    await writeFile(join(config, "config.json"), JSON.stringify({ cliPluginsExtraDirs: [join(folder, "extra")] }));
    expect(await findDockerPlugin("docker-buildx", config, [])).toBe(join(folder, "extra", "docker-buildx"));
  });

  it("is the person's own where there is one, and nothing is built", async () => {
    await mkdir(join(folder, ".docker", "cli-plugins"), { recursive: true });
    await writeFile(join(folder, ".docker", "cli-plugins", "docker-buildx"), "");
    const build = () => Promise.reject(new Error("must not build"));
    const found = await provideBuildx({ own: join(folder, "own"), recipe: "r", build, system: [] }, { HOME: folder });
    expect(found.dockerConfig).toBeUndefined();
    expect(await exists(join(folder, "own"))).toBe(false);
  });

  it("else lies in the project's configuration folder, whose settings are the person's own by link", async () => {
    const built = join(folder, "built");
    await writeFile(built, "buildx");
    const own = join(folder, "own");
    const place = { own, recipe: "r", build: async () => built, system: [] };
    expect(await provideBuildx(place, { HOME: folder })).toMatchObject({ dockerConfig: own, origin: "built" });
    expect(await readlink(join(own, "config.json"))).toBe(join(folder, ".docker", "config.json"));
    expect(await readlink(join(own, "contexts"))).toBe(join(folder, ".docker", "contexts"));
    // Once DOCKER_CONFIG names our folder, the person's own one is still what the links point to.
    const again = await provideBuildx(place, { HOME: folder, DOCKER_CONFIG: own });
    expect(again).toMatchObject({ dockerConfig: own, origin: "present" });
    expect(await readlink(join(own, "config.json"))).toBe(join(folder, ".docker", "config.json"));
  });
});
