import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { BaseImage } from "../../offline/base-image.ts";
import { ensureBaseImage } from "../../offline/setup.ts";
import { docker } from "./lib/project.ts";

describe("the base image that is made without a registry", () => {
  const cacheDir = join(homedir(), ".cache", "tunestack");
  const built = `tunestack-test-base:${process.pid}`;
  let image: BaseImage;
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "tunestack-base-"));
    image = await ensureBaseImage({ cacheDir, report: () => {} });
  });

  afterAll(async () => {
    await docker("rmi", "--force", built).catch(() => "");
    await rm(folder, { recursive: true, force: true });
  });

  it("is small, and made once", async () => {
    expect(image.bytes).toBeLessThan(130_000_000);
    const began = Date.now();
    expect(await ensureBaseImage({ cacheDir, report: () => {} })).toMatchObject({ tag: image.tag, made: false });
    expect(Date.now() - began).toBeLessThan(5000);
  });

  it("has Python with what its standard library should have, and no manuals", async () => {
    const script =
      "import ssl, sqlite3, zlib, lzma, bz2, json, ctypes, venv; print(len(ssl.create_default_context().get_ca_certs()) > 100)";
    expect(await docker("run", "--rm", image.tag, "python3", "-c", script)).toBe("True\n");
    const manuals = await docker(
      "run",
      "--rm",
      image.tag,
      "sh",
      "-c",
      "find /usr/share/man /usr/share/info -type f | wc -l",
    );
    expect(Number(manuals)).toBeLessThan(5);
  });

  it("lets a Dockerfile add a user and install packages from the machine's mirror", async () => {
    const dockerfile = `FROM ${image.tag}
RUN useradd --uid 1000 --create-home someone && apt-get update && apt-get install -y hello && rm -rf /var/lib/apt/lists/*
USER someone
`;
    await writeFile(join(folder, "Dockerfile"), dockerfile);
    await docker("build", "--tag", built, folder);
    expect(await docker("run", "--rm", built, "sh", "-c", "hello && id -u")).toMatch(/Hello, world!\n1000\n/);
  });
});
