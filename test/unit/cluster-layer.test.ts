import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { OfflineError } from "../../offline/setup.ts";
import { Processes, sweep } from "../cluster/lib/processes.ts";
import { skippedFor } from "../lib/cluster-layer.ts";

test("what a killed run left is removed, what belongs to a living one stays", async () => {
  const root = mkdtempSync(join(tmpdir(), "sweep-"));
  try {
    const left = join(root, "tunestack-cluster-left");
    mkdirSync(left);
    mkdirSync(join(root, "another"));
    const living = await Processes.make(root);
    sweep(root);
    expect(existsSync(left)).toBe(false);
    expect(existsSync(join(root, "another"))).toBe(true);
    expect(existsSync(living.folder)).toBe(true);
    await living.stop();
    expect(existsSync(living.folder)).toBe(false);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});

test("a machine without Go modules skips the layer and says why; any other failure fails it", () => {
  const failure = (cause: "network" | "compile") =>
    new OfflineError({ cause, what: "a control plane could not be built", why: "no such host", remedy: "set GOPROXY" });
  expect(skippedFor(failure("network"), 1)?.skipped).toEqual([
    { test: "all", reason: "a control plane could not be built; why: no such host; do:  set GOPROXY" },
  ]);
  expect(skippedFor(failure("compile"), 1)).toBeUndefined();
  expect(skippedFor(new Error("a defect"), 1)).toBeUndefined();
});
