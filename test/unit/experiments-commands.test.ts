import { describe, expect, test } from "vitest";
import { cancel, retry } from "../../scripts/lib/experiments/change-status.ts";
import { newPart } from "../../scripts/lib/experiments/follow-log.ts";
import { explainGit, withoutCredentials } from "../../scripts/lib/experiments/git-errors.ts";
import { drawChart, sweepChart } from "../../scripts/lib/experiments/plot.ts";
import {
  addExperiments,
  experimentsOfFile,
  parseValue,
  typedExperiment,
} from "../../scripts/lib/experiments/submit.ts";

describe("cancel and retry", () => {
  const entries = [
    {
      name: "a",
      command: "x",
      status: "failed",
      attempt: { number: 2, failures: 2, started_at: "2026-01-01T00:00:00Z" },
    },
    { name: "b", command: "x", needs: ["a"], status: "error", attempt: { number: 0, message: "not started" } },
    {
      name: "s",
      command: "x",
      matrix: { k: [1, 2] },
      status: "failed",
      children: { "s.k-1": { status: "completed" }, "s.k-2": { status: "failed", attempt: { number: 1 } } },
    },
    { name: "p", command: "x" },
  ];

  test("retry has what was not started because of it run as well, and leaves what runners wrote", () => {
    const { entries: after, changed } = retry(entries, ["a"]);
    expect(changed).toEqual(["a", "b"]);
    expect(after.slice(0, 2)).toMatchObject([{ status: "pending", attempt: { number: 2 } }, { status: "pending" }]);
    expect(after.slice(2)).toEqual(entries.slice(2));
  });

  test("retry of a sweep repeats what did not complete; of a child, that child", () => {
    const again = { status: "pending", attempt: { number: 1 } };
    expect(retry(entries, ["s"]).entries[2]).toMatchObject({
      status: "pending",
      children: { "s.k-1": { status: "completed" }, "s.k-2": again },
    });
    expect(retry(entries, ["s.k-2"]).entries[2]).toMatchObject({ status: "running", children: { "s.k-2": again } });
  });

  test("cancel takes what has not ended, children too", () => {
    expect(cancel(entries, ["p"]).entries[3]).toMatchObject({ status: "cancelled" });
    const fresh = [{ name: "s", command: "x", matrix: { k: [1, 2] } }];
    expect(cancel(fresh, ["s.k-2"]).entries).toEqual([{ ...fresh[0], children: { "s.k-2": { status: "cancelled" } } }]);
  });

  test("every name that does not fit is told at once", () => {
    expect(() => cancel(entries, ["a", "nobody"])).toThrow(
      /experiment a\n\s+has ended: it is failed[\s\S]*experiment nobody\n\s+is not in the queue/,
    );
    expect(() => retry(entries, ["p"])).toThrow(/has not ended: it is pending/);
  });
});

describe("what is typed", () => {
  test.each([
    ["1e-4", 0.0001],
    ["-3", -3],
    [".5", 0.5],
    ["true", true],
    ["1.2.3", "1.2.3"],
    ["0x10", "0x10"],
    ["adamw", "adamw"],
  ])("%s is %j", (text, value) => expect(parseValue(text)).toBe(value));

  test("a taken name is refused, and what is wrong elsewhere in the queue is told and no hindrance", () => {
    const there = [{ name: "a", command: "x" }, { name: "broken" }];
    expect(() => addExperiments(there, [{ name: "a", command: "x" }])).toThrow(
      /experiment a\n\s+is in the queue already/,
    );
    const { entries, others } = addExperiments(there, [{ name: "b", command: "x", needs: ["a"] }]);
    expect(entries).toHaveLength(3);
    expect(others.map(({ experiment }) => experiment)).toEqual(["broken"]);
    expect(() => addExperiments(there, [{ name: "b", command: "x", needs: ["c"] }])).toThrow(/b: needs\[0\] = "c"/);
  });

  test("all that is wrong with what was typed is told at once", () => {
    const typed = new Map([
      ["command", "x"],
      ["timeout", "3x"],
      ["gpus", "two"],
    ]);
    const options = {
      stack: "dev",
      json: false,
      operands: [],
      text: (name: string) => typed.get(name),
      list: () => [],
      flag: () => false,
    };
    expect(() => typedExperiment("Bad Name", options)).toThrow(
      /3 problems.*--timeout = 3x.*--gpus = two.*Bad Name: name/s,
    );
    typed.delete("timeout");
    typed.set("gpus", "2");
    expect(typedExperiment("good", options)).toEqual({ name: "good", command: "x", status: "pending", gpus: 2 });
  });

  test("a file with one experiment, or a list; problems by its lines", () => {
    expect(experimentsOfFile('{\n "name": "a",\n "command": "x"\n}', "f.json")).toHaveLength(1);
    expect(experimentsOfFile('[{"name": "a", "command": "x", "needs": ["on-the-branch"]}]', "f.json")).toHaveLength(1);
    expect(() => experimentsOfFile('{\n "name": "a",\n "timeout": "1h"\n}', "f.json")).toThrow(
      /f\.json:3 \[0\]\.timeout/,
    );
  });
});

describe("logs", () => {
  test.each([
    ["", "a\nb\n", "a\nb\n"],
    ["a\n", "a\nb\n", "b\n"],
    ["a\nb\nc\n", "b\nc\nd\n", "b\nc\nd\n"],
    [`${"x".repeat(500)}end\n`, `${"x".repeat(420)}end\nmore\n`, "more\n"],
  ])("what is new is shown once", (shown, log, expected) => expect(newPart(shown, log)).toBe(expected));
});

describe("the picture of a sweep", () => {
  const point = (lr: number, rank: number, loss: number) => ({
    experiment: `${lr}-${rank}`,
    parameters: { lr, rank, fixed: 1 },
    metrics: { "eval.loss": loss },
  });

  test("has the parameter with most values along its axis, and the next by colour", async () => {
    const chart = sweepChart([point(1e-5, 8, 3), point(1e-4, 8, 2), point(1e-3, 16, 1)], "s");
    if (chart === undefined) throw new Error("no chart");
    const text = JSON.stringify(chart);
    expect(text).toContain('"x":{"field":"parameter lr","type":"quantitative","title":"lr","scale":{"type":"log"}}');
    expect(text).toContain('"color":{"field":"parameter rank"');
    expect((await drawChart(chart)).length).toBeGreaterThan(5000);
  });

  test("there is none where there is nothing to compare", () => {
    expect(sweepChart([point(1, 1, 1)], "s")).toBeUndefined();
    expect(sweepChart([{ ...point(1, 1, 1), metrics: {} }, point(2, 1, 1)], "s")).toBeUndefined();
  });
});

describe("access that fails, in words", () => {
  test.each([
    ["fatal: could not read Username for 'https://x': terminal prompts disabled", /a name and a token/],
    ["git@x: Permission denied (publickey).\nfatal: Could not read from remote repository.", /none of your SSH keys/],
    ["Host key verification failed.\nfatal: Could not read from remote repository.", /does not know the server's key/],
    [
      "remote: Permission to a/b.git denied to c.\nfatal: unable to access 'x': The requested URL returned error: 403",
      /no right/,
    ],
    [
      "fatal: unable to access 'https://x/': SSL certificate problem: self-signed certificate",
      /certificate is not trusted/,
    ],
    ["fatal: unable to access 'https://x/': Could not resolve host: x", /cannot be reached/],
    ["fatal: something new", /git fetch failed:\n\s+fatal: something new/],
  ])("%j", (said, expected) => {
    const error = explainGit(said, { directory: "/d", what: "fetch", args: ["fetch"] });
    expect(error.message).toMatch(expected);
    expect(error.message).not.toMatch(/\.ts:\d+/);
  });

  test("a token in an address is not repeated", () => {
    expect(withoutCredentials("fatal: 'https://me:t0ken@host.example/a' and https://t0ken@host.example")).not.toContain(
      "t0ken",
    );
    expect(withoutCredentials("ssh://git@host.example/a")).toBe("ssh://git@host.example/a");
  });
});
