import { describe, expect, it } from "vitest";
import { engineRows } from "../../scripts/lib/clean/engine-site.ts";
import { inventoryOf, type Listing } from "../../scripts/lib/clean/inventory.ts";
import { checkpointProblems, runInProgress } from "../../scripts/lib/clean/refusals.ts";
import { formatRemoval, planRemoval } from "../../scripts/lib/clean/removal.ts";
import type { FoundThing } from "../../scripts/lib/doctor/orphans.ts";

const NAMING = { prefix: "", owner: "dev@/clone" };

function container(name: string, owner: string, run?: string): FoundThing {
  return { kind: "container", id: name, name, running: true, owner, run, inUse: false };
}

const LISTING: Listing = {
  things: [
    container("agent-jupyter", NAMING.owner),
    container("agent-other", "dev@/another"),
    { ...container("tunestack", ""), kind: "network", owner: undefined },
  ],
  images: [
    { id: "1", tags: ["tunestack/training:dev"], bytes: 5e9 },
    { id: "1", tags: ["tunestack/dry-run:dev"], bytes: 5e9 },
    { id: "2", tags: ["tunestack/training:prod"], bytes: 5e9 },
    { id: "3", tags: ["tunestack/lab-training:dev"], bytes: 5e9 },
    { id: "4", tags: ["tunestack/base:bookworm"], bytes: 1e8 },
  ],
  volumes: [
    { name: "training_logs", bytes: 100 },
    { name: "training_checkpoints", bytes: 4096 },
    { name: "training_backup", bytes: undefined },
    { name: "lab-training_logs", bytes: 1 },
    { name: "somebody_elses", bytes: 1 },
  ],
};

describe("what a stack made", () => {
  const inventory = inventoryOf(LISTING, "dev", NAMING);

  it("is told from what others made", () => {
    expect(inventory.containers.map(({ name }) => name)).toEqual(["agent-jupyter"]);
    expect(inventory.networks).toHaveLength(1);
    expect(inventory.images.map(({ tag }) => tag)).toEqual(["tunestack/training:dev", "tunestack/dry-run:dev"]);
    expect(inventory.volumes.map(({ name }) => name).sort()).toEqual([
      "training_backup",
      "training_checkpoints",
      "training_logs",
    ]);
  });

  it("is found by its prefix", () => {
    const lab = inventoryOf(LISTING, "dev", { prefix: "lab-", owner: "dev@/lab" });
    expect(lab.images.map(({ tag }) => tag)).toEqual(["tunestack/lab-training:dev"]);
    expect(lab.volumes.map(({ name }) => name)).toEqual(["lab-training_logs"]);
  });

  it("is nothing on an engine without it", () => {
    const nothing = inventoryOf({ things: [], images: [], volumes: [] }, "dev", NAMING);
    expect([...engineRows(nothing), ...nothing.volumes]).toEqual([]);
    expect(engineRows(inventory)).toHaveLength(4);
  });
});

describe("what would be removed", () => {
  const inventory = inventoryOf(LISTING, "dev", NAMING);
  const names = (entries: readonly { readonly name: string }[]) => entries.map(({ name }) => name);

  it("leaves checkpoints and snapshots by default", () => {
    const removal = planRemoval(inventory, { checkpoints: false, backups: false });
    expect(names(removal.removed)).toEqual(["training_logs"]);
    expect(names(removal.kept)).toEqual(["training_checkpoints", "training_backup"]);
  });

  it("takes each of them by its own option", () => {
    expect(names(planRemoval(inventory, { checkpoints: true, backups: false }).kept)).toEqual(["training_backup"]);
    expect(names(planRemoval(inventory, { checkpoints: false, backups: true }).kept)).toEqual(["training_checkpoints"]);
  });

  it("is told with sizes, and what each volume holds", () => {
    const text = formatRemoval(engineRows(inventory), planRemoval(inventory, { checkpoints: true, backups: false }));
    expect(text).toMatch(/training_checkpoints +4 KiB +lost: runs: checkpoints and adapters/);
    expect(text).toMatch(/stays: volume training_backup \(\?: backup snapshots\); --backups removes it too/);
  });
});

const LOCAL = { stack: "dev", localRepository: true, up: "npm start" };

describe("refusals", () => {
  it("of a clean under a run in progress name the command that stops it", () => {
    const running = { containers: [container("agent-qlora-training", NAMING.owner, "mine")] };
    expect(runInProgress(running, "dev")).toMatchObject({
      path: "run mine",
      remedy: expect.stringContaining("npm run train-stop"),
    });
    expect(runInProgress({ containers: [{ ...container("x", "y", "mine"), running: false }] }, "dev")).toBeUndefined();
    expect(runInProgress({ containers: [container("agent-jupyter", NAMING.owner)] }, "dev")).toBeUndefined();
  });

  const unsaved = {
    kind: "known",
    checkpoints: [{ run: "mine", manifest: "/checkpoints/mine/checkpoint-9/manifest.json", text: "{}" }],
  } as const;

  it("name each run whose newest checkpoint is in no backup", () => {
    expect(checkpointProblems(unsaved, { backups: false }, LOCAL)).toMatchObject([
      { path: "run mine", value: "/checkpoints/mine/checkpoint-9" },
    ]);
  });

  it("are none where all of them are", () => {
    expect(checkpointProblems({ kind: "known", checkpoints: [] }, { backups: false }, LOCAL)).toEqual([]);
  });

  it("come where nobody can tell", () => {
    const problems = checkpointProblems({ kind: "unknown", why: "the image is gone" }, { backups: false }, LOCAL);
    expect(problems[0]?.reason).toContain("the image is gone");
  });

  it("come where the snapshots would go along, unless they are elsewhere", () => {
    const saved = { kind: "known", checkpoints: [] } as const;
    expect(checkpointProblems(saved, { backups: true }, LOCAL)).toHaveLength(1);
    expect(checkpointProblems(saved, { backups: true }, { ...LOCAL, localRepository: false })).toEqual([]);
  });
});
