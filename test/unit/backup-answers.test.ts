import { describe, expect, it } from "vitest";
import { askBackup, asWeType, listSchema, readAnswer, requireBackup, takenSchema } from "../../scripts/lib/backup.ts";
import { EXIT, UserError } from "../../scripts/lib/errors.ts";
import { formatSnapshots } from "../../scripts/lib/snapshot-table.ts";
import type { ContainerState } from "../../scripts/lib/workloads.ts";

const TAKEN = { snapshot_id: "abcd1234", bytes: 10, added_bytes: 5, checkpoints: 1, excluded: [], warnings: [] };

function failure(body: () => unknown): UserError {
  try {
    body();
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

function failed(message: string, exit_code: number): UserError {
  const stdout = JSON.stringify({ error: { message, remedy: "`list` shows them", exit_code } });
  return failure(() => readAnswer("restore", { exitCode: exit_code, stdout, stderr: "" }, listSchema));
}

describe("what the backup program answers", () => {
  it("is the object on its last line", () => {
    const stdout = `a line of something else\n${JSON.stringify(TAKEN)}\n`;
    expect(readAnswer("now", { exitCode: 0, stdout, stderr: "" }, takenSchema)).toEqual(TAKEN);
  });

  it("tells a failure in its own words, with our commands", () => {
    const error = failed("there is no snapshot 'feed'", 4);
    expect(error.message).toContain("there is no snapshot 'feed'");
    expect(error.message).toContain("npm run restore -- list shows them");
  });

  it.each([
    ["there is no snapshot 'feed'", 4, EXIT.settings],
    ["/checkpoints/a, /logs/a exist already", 2, EXIT.refused],
    ["/checkpoints/a exists already", 2, EXIT.refused],
    ["the disk of /backup is full", 6, EXIT.machine],
    ["the object store does not answer", 7, EXIT.network],
  ])("%s: exit code %i becomes %i", (message, theirs, ours) => {
    expect(failed(message, theirs).exitCode).toBe(ours);
  });

  it("shows what a program without an answer said last", () => {
    const result = { exitCode: 2, stdout: "", stderr: "usage: …\nerror: unrecognized arguments: --mystery" };
    expect(failure(() => readAnswer("now", result, takenSchema)).message).toContain(
      "unrecognized arguments: --mystery",
    );
  });

  it("is a failure where it is of another shape", () => {
    const result = { exitCode: 0, stdout: '{"snapshots": 3}', stderr: "" };
    expect(failure(() => readAnswer("list", result, listSchema)).message).toContain("backup list");
  });

  it("is asked for as JSON", async () => {
    const commands: (readonly string[])[] = [];
    const run = async (_container: string, command: readonly string[]) => {
      commands.push(command);
      return { exitCode: 0, stdout: JSON.stringify(TAKEN), stderr: "" };
    };
    await askBackup({ run }, "box", ["now"], takenSchema);
    expect(commands).toEqual([["python", "-m", "tunestack_train.backup", "now", "--json"]]);
  });

  it("names our commands in place of the program's", () => {
    expect(asWeType("take one: `now`; check: `verify`")).toBe(
      "take one: npm run backup; check: npm run restore -- verify",
    );
  });
});

const STATE: ContainerState = {
  exists: true,
  reachable: true,
  running: true,
  health: "healthy",
  startedAt: undefined,
  exitCode: undefined,
  restarts: 0,
  lastCheck: undefined,
};

describe("the backup service", () => {
  const services = [{ name: "training-backup", container: "agent-training-backup" }] as const;

  it("is taken where it runs", async () => {
    const outputs = { stack: "dev", services, leftOut: [] };
    await expect(requireBackup({ state: async () => STATE }, outputs)).resolves.toBe("agent-training-backup");
  });

  it("is reported where it does not run", async () => {
    const outputs = { stack: "dev", services, leftOut: [] };
    const state = async () => ({ ...STATE, reachable: false, health: "exited (1)" });
    await expect(requireBackup({ state }, outputs)).rejects.toThrow(/does not run[\s\S]*doctor -- --fix/);
  });

  it("is reported where its profile is off", async () => {
    const outputs = { stack: "lab", services: [], leftOut: [] };
    await expect(requireBackup({ state: async () => STATE }, outputs)).rejects.toThrow(
      "npm run train-monitor -- --stack lab",
    );
  });

  it("is reported where a setting leaves it out", async () => {
    const leftOut = [{ service: "training-backup", reason: "services.training-backup.enabled is false" }];
    const outputs = { stack: "dev", services: [], leftOut };
    await expect(requireBackup({ state: async () => STATE }, outputs)).rejects.toThrow(
      /enabled is false[\s\S]*enabled true/,
    );
  });
});

describe("the table of snapshots", () => {
  const one = {
    id: "aaaa0001",
    time: "2026-11-22T10:00:00Z",
    runs: ["first"],
    parts: { checkpoints: "/checkpoints", logs: "/logs" },
  };
  const two = { id: "aaaa0002", time: "2026-11-23T10:00:00.5+00:00", runs: [], parts: { logs: "/logs" } };

  it("begins with the newest and tells what each holds", () => {
    const rows = formatSnapshots([one, two]).split("\n").slice(2);
    expect(rows[0]).toMatch(/^aaaa0002 .* {2}logs$/);
    expect(rows[1]).toMatch(/^aaaa0001 .* run first; logs$/);
  });

  it("says how to take a first one", () => {
    expect(formatSnapshots([])).toContain("npm run backup");
  });
});
