import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ENDED, isName, queueJsonSchema, queueText, STATUSES } from "../../scripts/lib/experiments/format.ts";
import { childName, childrenOf } from "../../scripts/lib/experiments/matrix.ts";
import { compareCodePoints, mergeOrder, mergeQueues } from "../../scripts/lib/experiments/merge.ts";
import { readQueue, requireQueue } from "../../scripts/lib/experiments/validate.ts";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";

test("the schema that editors read is what the validator's own schema says (npm run golden renews it)", () => {
  const file = join(PROJECT_DIR, "schemas", "experiments.schema.json");
  const text = `${JSON.stringify(queueJsonSchema(), null, 2)}\n`;
  if (process.env.UPDATE_GOLDEN === "1") {
    mkdirSync(join(PROJECT_DIR, "schemas"), { recursive: true });
    writeFileSync(file, text);
  }
  expect(existsSync(file) ? readFileSync(file, "utf8") : "").toBe(text);
});

const EXAMPLES = join(PROJECT_DIR, "examples", "experiments");
const example = (...path: string[]) => readFileSync(join(EXAMPLES, ...path), "utf8");

interface ValidExample {
  readonly name: string;
  readonly values?: Readonly<Record<string, unknown>>;
}
interface BrokenExample {
  readonly unusable: readonly number[];
  readonly problems: readonly { readonly code: string; readonly path: string; readonly line: number }[];
}
const VALID = JSON.parse(example("valid.json")) as Readonly<Record<string, readonly ValidExample[]>>;
const BROKEN = JSON.parse(example("broken.json")) as Readonly<Record<string, BrokenExample>>;

describe("the examples that the runner's tests read as well", () => {
  test("are all looked at", () => {
    expect(readdirSync(join(EXAMPLES, "valid")).sort()).toEqual(Object.keys(VALID).sort());
    expect(readdirSync(join(EXAMPLES, "broken")).sort()).toEqual(Object.keys(BROKEN).sort());
  });

  test.each(Object.keys(VALID))("valid/%s has no problem, and makes these experiments", (file) => {
    const { experiments, problems } = readQueue(example("valid", file));
    expect(problems).toEqual([]);
    const made = experiments.flatMap((experiment): readonly object[] =>
      experiment.matrix === undefined ? [{ name: experiment.name }] : childrenOf(experiment),
    );
    expect(made).toEqual(VALID[file]?.map(({ name, values }) => (values === undefined ? { name } : { name, values })));
  });

  test.each(Object.keys(BROKEN))("broken/%s has exactly these problems", (file) => {
    const { entries, experiments, problems } = readQueue(example("broken", file));
    expect(problems.map(({ code, path, line }) => ({ code, path, line }))).toEqual(BROKEN[file]?.problems);
    for (const { reason, remedy } of problems) expect([reason, remedy]).not.toContain("");
    expect(entries.length - experiments.length).toBe(BROKEN[file]?.unusable.length);
  });

  test.each(readdirSync(join(EXAMPLES, "merge")))("merge/%s", (file) => {
    const { base, ours, theirs, merged, conflicts } = JSON.parse(example("merge", file)) as Readonly<
      Record<string, unknown[]>
    >;
    const made = mergeQueues(base ?? [], ours ?? [], theirs ?? []);
    expect(made.experiments).toEqual(merged);
    expect(made.conflicts.map(({ experiment, field }) => `${experiment}.${field}`)).toEqual(conflicts);
  });

  test("the template is written as both sides write", () => {
    const text = example("template.json");
    expect(queueText(readQueue(text).entries)).toBe(text);
  });
});

describe("requireQueue", () => {
  test("tells every problem at once, by file and line, with what to do", () => {
    const text = '[\n  { "name": "Bad Name",\n    "command": "true", "timeout": 0 }\n]';
    expect(() => requireQueue(text, "mine.json")).toThrow(
      /2 problems in the file mine\.json:\n {2}mine\.json:2 \[0\]\.name \(Bad Name\) = "Bad Name"\n {4}is no name[^\n]*\n {4}→ take[^\n]*\n {2}mine\.json:3 \[0\]\.timeout/,
    );
  });

  test("keeps unknown fields", () => {
    expect(requireQueue('[{ "name": "a", "command": "true", "mine": { "x": 1 } }]')).toEqual([
      { name: "a", command: "true", mine: { x: 1 } },
    ]);
  });
});

describe("names", () => {
  test.each(["a", "0", "a.b", "a_b-c.d", "a".repeat(63)])("%s is one", (name) => expect(isName(name)).toBe(true));
  test.each(["", "A", "-a", ".a", "a..b", "a.", "a.lock", "a/b", "a b", "a".repeat(64)])("%j is none", (name) =>
    expect(isName(name)).toBe(false),
  );

  test("of children speak, in the order of the keys, the last changing fastest", () => {
    const matrix = { lr: [1e-4, 1e-7], flag: [true, "x"] };
    expect(childrenOf({ name: "s", matrix }).map(({ name }) => name)).toEqual([
      "s.lr-0.0001.flag-true",
      "s.lr-0.0001.flag-x",
      "s.lr-1e-7.flag-true",
      "s.lr-1e-7.flag-x",
    ]);
  });

  test("of children are a hash where they cannot speak", () => {
    expect(childName("s", { path: "data/a b" })).toBe("s.44b53b1e8844");
    expect(isName(childName("s", { K: 1 }))).toBe(true);
  });
});

/** Queues as two sides may leave them: few names and fields, so that they meet. */
const entry = fc.record(
  {
    name: fc.constantFrom("a", "b", "c", "d"),
    command: fc.constantFrom("x", "y"),
    timeout: fc.constantFrom(1, 2, 10),
    mine: fc.constantFrom("é", "\u{1F600}", "\uFFFD"),
    status: fc.constantFrom(...STATUSES),
    attempt: fc.record({ number: fc.integer({ min: 1, max: 3 }), runner: fc.constantFrom("r", "s") }),
    children: fc.dictionary(
      fc.constantFrom("k", "l"),
      fc.record({
        status: fc.constantFrom(...STATUSES),
        attempt: fc.record({ number: fc.integer({ min: 1, max: 2 }) }),
      }),
    ),
  },
  { requiredKeys: ["name"] },
);
const entries = fc.uniqueArray(entry, { selector: ({ name }) => name });

describe("mergeQueues", () => {
  test("is the same whichever side is called ours", () => {
    fc.assert(
      fc.property(entries, entries, entries, (base, ours, theirs) => {
        expect(mergeQueues(base, ours, theirs).experiments).toEqual(mergeQueues(base, theirs, ours).experiments);
      }),
    );
  });

  test("gives a side that alone changed something exactly what it has", () => {
    fc.assert(
      fc.property(entries, entries, (base, changed) => {
        const { experiments, conflicts } = mergeQueues(base, changed, base);
        const names = (list: readonly object[]) => list.map((each) => JSON.stringify(each)).sort();
        // A child that either side has is kept.
        const kept = changed.map((each) => {
          const before = base.find(({ name }) => name === each.name)?.children;
          if (before === undefined) return each;
          return { ...each, children: { ...before, ...each.children } };
        });
        const canonical = (list: readonly object[]) =>
          names(list.map((each) => Object.fromEntries(Object.entries(each).sort())));
        const flat = (list: readonly object[]) => canonical(JSON.parse(JSON.stringify(list, sortKeys)));
        expect(flat(experiments)).toEqual(flat(kept));
        expect(conflicts).toEqual([]);
      }),
    );
  });

  test("what has ended stays ended, unless a newer attempt began", () => {
    const at = (status: string, number: number) => [{ name: "a", status, attempt: { number } }];
    expect(mergeQueues(at("running", 1), at("completed", 1), at("cancelled", 1)).experiments).toEqual(
      at("completed", 1),
    );
    expect(mergeQueues(at("failed", 1), at("running", 2), at("timeout", 1)).experiments).toEqual(at("running", 2));
    expect(ENDED.has("cancelled")).toBe(true);
  });

  test("two people's changes of one field are a conflict that is told, and a removal never wins", () => {
    const of = (fields: object) => [{ name: "a", ...fields }];
    const { experiments, conflicts } = mergeQueues(of({ timeout: 1 }), of({ timeout: 20 }), of({ timeout: 3 }));
    expect(experiments).toEqual(of({ timeout: 3 }));
    expect(conflicts).toEqual([{ experiment: "a", field: "timeout", kept: 3, dropped: 20 }]);
    expect(mergeQueues(of({ timeout: 1 }), of({}), of({ timeout: 3 })).experiments).toEqual(of({ timeout: 3 }));
  });

  test("an experiment removed on one side and changed on the other is kept", () => {
    const base = [{ name: "a", command: "x" }];
    expect(mergeQueues(base, [], base).experiments).toEqual([]);
    expect(mergeQueues(base, [], [{ name: "a", command: "y" }]).experiments).toEqual([{ name: "a", command: "y" }]);
  });

  test("order: that of the side which changed it, then what is new by its first name", () => {
    expect(mergeOrder(["a", "b"], ["b", "a"], ["a", "b", "z"])).toEqual(["b", "a", "z"]);
    expect(mergeOrder(["a", "b", "c"], ["c", "b", "a"], ["b", "a", "c"])).toEqual(["a", "b", "c"]);
    expect(mergeOrder([], ["x", "b"], ["c", "d"])).toEqual(["c", "d", "x", "b"]);
  });

  test("texts are compared by code points and not by units of UTF-16", () => {
    expect(compareCodePoints("\u{1F600}", "\uFFFD")).toBeGreaterThan(0);
    expect("\u{1F600}" > "\uFFFD").toBe(false);
  });
});

function sortKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

test("the file is written as the other side writes it", () => {
  expect(queueText([{ name: "ä" }])).toBe('[\n  {\n    "name": "ä"\n  }\n]\n');
});
