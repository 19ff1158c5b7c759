import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { isHeld, isStale, readLocks } from "../../scripts/lib/doctor/locks.ts";
import { type Mendable, mendStack } from "../../scripts/lib/doctor/mend.ts";
import { type FoundThing, findMissing, findOrphans } from "../../scripts/lib/doctor/orphans.ts";
import { knownState, withoutPending } from "../../scripts/lib/doctor/state.ts";
import { readDeployment } from "../../scripts/lib/file-backend.ts";
import { stackInputs } from "../lib/inputs.ts";

const NAMING = { prefix: "lab-", owner: "lab@/clone" };
const HERE = { hostname: "desk", runsPulumi: (pid: number) => pid === 7 };
const LOCK = { pid: 8, username: "ann", hostname: "desk", timestamp: "2026-11-23T10:00:00Z" };

function container(id: string, owner: string | undefined): FoundThing {
  return { kind: "container", id, name: `box-${id}`, running: true, owner, run: undefined, inUse: false };
}

function network(id: string, name: string, inUse = false): FoundThing {
  return { kind: "network", id, name, running: false, owner: undefined, run: undefined, inUse };
}

describe("left-overs of a killed up", () => {
  const state = { containers: new Set(["known"]), networks: new Set(["net"]) };

  it("are our containers that the state does not know", () => {
    const found = [container("known", NAMING.owner), container("new", NAMING.owner)];
    expect(findOrphans(found, NAMING, state).map(({ id }) => id)).toEqual(["new"]);
  });

  it("are never anybody else's containers", () => {
    const found = [container("theirs", "dev@/clone"), container("nobodys", undefined)];
    expect(findOrphans(found, NAMING, state)).toEqual([]);
  });

  it("are networks of our name that nothing is on", () => {
    const found = [network("net", "lab-tunestack"), network("twin", "lab-tunestack"), network("other", "tunestack")];
    expect(findOrphans(found, NAMING, state).map(({ id }) => id)).toEqual(["twin"]);
    expect(findOrphans([network("twin", "lab-tunestack", true)], NAMING, state)).toEqual([]);
  });

  it("are told from what the state knows and the engine lost", () => {
    expect(findMissing([container("known", NAMING.owner)], state)).toEqual(["net"]);
    expect(findMissing([container("known", NAMING.owner), network("net", "lab-tunestack")], state)).toEqual([]);
  });
});

describe("mending", () => {
  it("tells a failure of Pulumi as a person can use it", async () => {
    const refused = () =>
      Promise.reject(new Error("code: -2\n stderr: error: get secrets manager: incorrect passphrase"));
    const stack: Mendable = {
      name: "nowhere",
      cancel: refused,
      exportStack: refused,
      importStack: refused,
      refresh: refused,
    };
    await expect(mendStack(stack, stackInputs(), () => undefined)).rejects.toThrow(
      /stack nowhere\n {4}its secrets were made with another passphrase/,
    );
  });
});

describe("locks", () => {
  it("are stale where their process is no more", () => {
    expect(isStale(LOCK, HERE)).toBe(true);
    expect(isStale({ ...LOCK, pid: 7 }, HERE)).toBe(false);
  });

  it("of another machine are never called stale", () => {
    expect(isStale({ ...LOCK, hostname: "other" }, HERE)).toBe(false);
  });

  it("hold the stack as long as one of them is not stale", () => {
    expect(isHeld([LOCK, { ...LOCK, pid: 7 }], HERE)).toBe(true);
    expect(isHeld([LOCK], HERE)).toBe(false);
  });

  it("are read from the backend's folder, whatever else lies there", () => {
    const folder = mkdtempSync(join(tmpdir(), "tunestack-locks-"));
    writeFileSync(join(folder, "one.json"), JSON.stringify(LOCK));
    writeFileSync(join(folder, "one.json.attrs"), '{"user.content_type":"text/plain"}');
    writeFileSync(join(folder, "torn.json"), '{"pid": 8');
    expect(readLocks("dev", folder)).toEqual([LOCK]);
    expect(readLocks("dev", join(folder, "missing"))).toEqual([]);
    rmSync(folder, { recursive: true });
  });
});

describe("Pulumi's state", () => {
  const urn = (name: string) =>
    `urn:pulumi:lab::tunestack::tunestack:docker:DockerStack$docker:index/container:Container::${name}`;
  const deployment = {
    resources: [
      { type: "docker:index/container:Container", urn: urn("tunestack-jupyter"), id: "known" },
      { type: "docker:index/network:Network", urn: urn("tunestack-network"), id: "net" },
      { type: "docker:index/volume:Volume", urn: urn("tunestack-training-logs"), id: "training_logs" },
      { type: "pulumi:pulumi:Stack", urn: urn("tunestack-lab") },
    ],
    pending_operations: [
      { type: "creating", resource: { urn: urn("tunestack-tensorboard"), type: "docker:index/container:Container" } },
    ],
  };

  it("tells containers, networks and what never ended", () => {
    expect(knownState({ version: 3, deployment })).toEqual({
      containers: new Set(["known"]),
      networks: new Set(["net"]),
      pending: ["creating tunestack-tensorboard"],
    });
  });

  it("knows nothing before the first up", () => {
    expect(knownState({ version: 3, deployment: { manifest: {} } }).containers.size).toBe(0);
  });

  it("can forget what never ended, and nothing else", () => {
    const after = withoutPending({ version: 3, deployment });
    expect(after).toEqual({ version: 3, deployment: { ...deployment, pending_operations: [] } });
    expect(deployment.pending_operations).toHaveLength(1);
  });
});

describe("the state as the file backend keeps it", () => {
  const read = (content: string | undefined) => {
    const folder = mkdtempSync(join(tmpdir(), "tunestack-state-"));
    try {
      const file = join(folder, "dev.json");
      if (content !== undefined) writeFileSync(file, content);
      return readDeployment("dev", file);
    } finally {
      rmSync(folder, { recursive: true });
    }
  };

  it("is what the CLI would export", () => {
    const latest = { manifest: {}, resources: [], pending_operations: [] };
    expect(read(JSON.stringify({ version: 3, checkpoint: { stack: "dev", latest } }))).toEqual({
      version: 3,
      deployment: latest,
    });
  });

  it("knows nothing of a stack that was never brought up", () => {
    expect(read(JSON.stringify({ version: 3, checkpoint: { stack: "dev" } }))).toEqual({ version: 3, deployment: {} });
  });

  it("is left to the CLI where it is missing or damaged", () => {
    expect(read(undefined)).toBeUndefined();
    expect(read('{"version": 3, "checkp')).toBeUndefined();
    expect(read('{"version": 3}')).toBeUndefined();
  });
});
