import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { verifyManifests } from "../../scripts/lib/snapshot-files.ts";

let folder: string;
const WEIGHTS = Buffer.from("weights of a model");

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tunestack-files-"));
  const checkpoint = join(folder, "checkpoints", "run", "checkpoint-2");
  mkdirSync(checkpoint, { recursive: true });
  writeFileSync(join(checkpoint, "weights.bin"), WEIGHTS);
  manifest({ "weights.bin": { size: WEIGHTS.length, sha256: createHash("sha256").update(WEIGHTS).digest("hex") } });
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function manifest(files: Readonly<Record<string, { size: number; sha256: string }>>): void {
  const text = JSON.stringify({ schema: 1, created_at: "2026-11-23T00:00:00Z", files });
  writeFileSync(join(folder, "checkpoints", "run", "checkpoint-2", "manifest.json"), text);
}

describe("files that came back", () => {
  it("are well where every hash is the manifest's", async () => {
    expect(await verifyManifests(folder)).toEqual({ files: 1, manifests: 1, problems: [] });
  });

  it.each([
    ["differs from what was saved", (file: string) => writeFileSync(file, "weights of a mOdel")],
    ["has 3 bytes and not 18", (file: string) => writeFileSync(file, "abc")],
    ["is missing", (file: string) => rmSync(file)],
  ])("are reported by name: %s", async (problem, spoil) => {
    spoil(join(folder, "checkpoints", "run", "checkpoint-2", "weights.bin"));
    const { problems } = await verifyManifests(folder);
    expect(problems).toEqual([`checkpoints/run/checkpoint-2/weights.bin ${problem}`]);
  });

  it("are reported where the manifest leads out of its folder", async () => {
    manifest({ "../../outside": { size: 1, sha256: "00" } });
    const { problems } = await verifyManifests(folder);
    expect(problems).toEqual(["checkpoints/outside is outside of the manifest's folder"]);
  });

  it("are reported where the manifest cannot be read", async () => {
    writeFileSync(join(folder, "checkpoints", "run", "checkpoint-2", "manifest.json"), "{");
    expect((await verifyManifests(folder)).problems).toEqual([
      "checkpoints/run/checkpoint-2/manifest.json is no manifest",
    ]);
  });
});
