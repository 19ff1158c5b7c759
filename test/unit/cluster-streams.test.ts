import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readKubeconfig } from "../../k8s/access.ts";
import { execute, followLog, forwardPort, readLog, runToEnd } from "../../scripts/lib/cluster/streams.ts";
import { packed, unpacked } from "../../scripts/lib/cluster/tar.ts";
import { freePort } from "../../scripts/lib/free-port.ts";
import { ApiStub } from "../lib/api-stub.ts";

const folder = mkdtempSync(join(tmpdir(), "tunestack-streams-"));
let stub: ApiStub;
let config: ReturnType<typeof readKubeconfig>;

beforeAll(async () => {
  stub = await ApiStub.start();
  writeFileSync(join(folder, "kubeconfig"), stub.kubeconfig());
  config = readKubeconfig({ kubeconfig: join(folder, "kubeconfig") });
});
afterAll(() => {
  stub.stop();
  rmSync(folder, { recursive: true });
});

const place = { namespace: "tunestack-team", pod: "pod", container: "main" };

describe("a program in a pod", () => {
  test("gives its two streams apart, and its exit code", async () => {
    const ended = await runToEnd(config, place, ["sh", "-c", "echo out; echo err >&2; exit 7"]);
    expect(ended).toEqual({ exitCode: 7, stdout: "out\n", stderr: "err\n" });
  });

  test("whose container is killed ends as one that is killed", async () => {
    const ended = await runToEnd(config, place, ["sh", "-c", "echo out; kill -9 $$"]);
    expect(ended).toEqual({ exitCode: 137, stdout: "out\n", stderr: "" });
  });

  test("waits for a reader that is slower than it", async () => {
    const { stdout, exitCode } = await execute(config, place, ["head", "-c", "50000000", "/dev/zero"]);
    await sleep(500);
    expect(stdout.readableLength).toBeLessThan(10_000_000);
    let bytes = 0;
    for await (const chunk of stdout) bytes += (chunk as Buffer).length;
    expect({ bytes, code: await exitCode }).toEqual({ bytes: 50_000_000, code: 0 });
  });
});

describe("files of a pod", () => {
  test("go there and back as they are", async () => {
    const source = join(folder, "source");
    mkdirSync(join(source, "deep"), { recursive: true });
    writeFileSync(join(source, "deep", "blob"), randomBytes(20_000_000));
    mkdirSync(join(folder, "copy"));
    await unpacked(config, place, join(folder, "copy"), await packed(config, place, source));
    execFileSync("diff", ["--recursive", source, join(folder, "copy", "source")]);
  });

  test("that are not there are an error with tar's own words, at either end", async () => {
    const missing = await packed(config, place, "/no/such");
    const read = async () => {
      for await (const _ of missing);
    };
    await expect(read()).rejects.toThrow(/tar ended with exit code 2: tar: \/no/);
    const some = await packed(config, place, join(folder, "kubeconfig"));
    await expect(unpacked(config, place, "/no/such", some)).rejects.toThrow(/tar ended with exit code 2/);
  });

  test.each([0, 200])("that break off on their way are not taken for whole, be it after %d ms", async (wait) => {
    const broken = new PassThrough();
    broken.write(Buffer.alloc(512));
    setTimeout(() => broken.destroy(new Error("the other end is gone")), wait);
    await expect(unpacked(config, place, folder, broken)).rejects.toThrow("the other end is gone");
  });
});

test("a log is read from its end, and followed until the signal", async () => {
  const file = join(folder, "log");
  writeFileSync(file, "one\ntwo\nthree\n");
  const at = { ...place, container: file };
  expect(await readLog(config, at, 2)).toBe("two\nthree\n");
  const stop = new AbortController();
  const to = new PassThrough();
  let seen = "";
  to.on("data", (data) => {
    seen += String(data);
    if (seen.endsWith("four\n")) stop.abort();
  });
  const followed = followLog(config, at, 1, to, stop.signal);
  await sleep(200);
  writeFileSync(file, "four\n", { flag: "a" });
  await followed;
  expect(seen).toBe("three\nfour\n");
});

test("a port of a pod is reached by a port here, each time in the pod that is there", async () => {
  const pages = ["first", "second"].map((name) =>
    createServer((request, response) => response.end(`${name} ${request.url}`)),
  );
  for (const page of pages) await new Promise<void>((resolve) => page.listen(0, "127.0.0.1", resolve));
  let now = 0;
  const reached = await forwardPort(config, "http://127.0.0.1:8888/lab?token=1", await freePort(0), async () => {
    const address = pages[now]?.address() as AddressInfo;
    return { namespace: "tunestack-team", pod: "pod", port: address.port };
  });
  const ask = async () => await (await fetch(reached.url, { headers: { connection: "close" } })).text();
  expect(await ask()).toBe("first /lab?token=1");
  now = 1;
  expect(await ask()).toBe("second /lab?token=1");
  for (const page of pages) page.close();
});
