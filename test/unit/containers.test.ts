import { Readable } from "node:stream";
import { pack } from "tar-stream";
import { describe, expect, it, vi } from "vitest";
import { Containers } from "../../scripts/lib/containers.ts";

const WHOLE = await archiveOf("status.json", '{"step": 4}');
const CUT_OFF = WHOLE.subarray(0, 516);

describe("a file of a container", () => {
  it("is asked for again when its container started anew meanwhile", async () => {
    expect(await readFrom([CUT_OFF, CUT_OFF, WHOLE])).toBe('{"step": 4}');
  });

  it("is given up on when its archive never ends well", async () => {
    await expect(readFrom([CUT_OFF, CUT_OFF, CUT_OFF, WHOLE])).rejects.toThrow("Unexpected end of data");
  });
});

/** Reads the file from an engine that answers with these archives, one after the other. */
async function readFrom(archives: readonly Buffer[]): Promise<string | undefined> {
  const containers = new Containers({});
  const left = [...archives];
  const getArchive = async () => Readable.from([left.shift()]);
  vi.spyOn(containers.client, "getContainer").mockReturnValue({ getArchive } as never);
  return await containers.readFile("training", "/logs/run/status.json");
}

async function archiveOf(name: string, text: string): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name }, text);
  tar.finalize();
  const parts: Buffer[] = [];
  for await (const part of tar) parts.push(part as Buffer);
  return Buffer.concat(parts);
}
