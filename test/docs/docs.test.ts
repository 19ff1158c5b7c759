import { existsSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, test } from "vitest";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { trackedFiles } from "../lib/tracked.ts";

const documents = trackedFiles().filter((file) => file.endsWith(".md"));
const read = (file: string) => readFileSync(join(PROJECT_DIR, file), "utf8");

const { scripts } = JSON.parse(read("package.json")) as { scripts: Readonly<Record<string, string>> };

/** The commands of package.json that a text tells people to type: `npm run X`, `npm test`, `npm start`. */
function npmCommands(text: string): readonly string[] {
  return [...text.matchAll(/\bnpm (?:run ([a-z][a-z0-9:-]*)|(start|test)\b)/g)].map(([, run, own]) => run ?? own ?? "");
}

/** Relative links of a document: `[text](path#anchor)` and images. */
function relativeLinks(text: string): readonly string[] {
  const outsideCode = text.replaceAll(/```[\s\S]*?```|`[^`\n]*`/g, "");
  return [...outsideCode.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target = ""]) => target)
    .filter((target) => !/^[a-z]+:/.test(target));
}

/** Anchors as GitHub makes them of headings. */
function anchorsOf(text: string): readonly string[] {
  return [...text.replaceAll(/```[\s\S]*?```/g, "").matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{Letter}\p{Number} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

test("the documents that people are promised are there", () => {
  expect(documents).toEqual(
    expect.arrayContaining(["AGENTS.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "docs/guide.md"]),
  );
});

describe.each(documents)("%s", (file) => {
  test("names commands that there are", () => {
    const unknown = npmCommands(read(file)).filter((name) => scripts[name] === undefined);
    expect([...new Set(unknown)]).toEqual([]);
  });

  test("has links that lead somewhere", () => {
    const dead = relativeLinks(read(file)).filter((link) => {
      const [target = "", anchor] = link.split("#");
      const path = target === "" ? file : normalize(join(dirname(file), target));
      if (!existsSync(join(PROJECT_DIR, path))) return true;
      return anchor !== undefined && path.endsWith(".md") && !anchorsOf(read(path)).includes(anchor);
    });
    expect(dead).toEqual([]);
  });
});

test("README has every command in its table", () => {
  const named = new Set(npmCommands(read("README.md")).concat(tableCommands(read("README.md"))));
  const forPeople = Object.keys(scripts).filter((name) => scripts[name]?.startsWith("node scripts/run.mjs"));
  expect(forPeople.filter((name) => !named.has(name))).toEqual([]);
});

/** Commands that a table names by themselves: `| train-dev |`. */
function tableCommands(text: string): readonly string[] {
  const rows = text.split("\n").filter((line) => line.startsWith("|"));
  return rows.flatMap((row) => [...row.matchAll(/`([a-z][a-z0-9-]*)`/g)].map(([, name = ""]) => name));
}

describe("the search itself", () => {
  test("finds commands in text, code and with options", () => {
    expect(
      npmCommands("Type `npm start`, then npm run train-dev -- --stack x; HF_TOKEN=x npm run test:python"),
    ).toEqual(["start", "train-dev", "test:python"]);
    expect(npmCommands("npm ci and npm packages; npx pulumi up; npm run NAME")).toEqual([]);
  });

  test("finds relative links and not those that lead away or stand in code", () => {
    const text = "[a](docs/a.md#b) ![i](x.png) [w](https://x.example) `[c](d)`\n```\n[e](f)\n```\n[g](#h)";
    expect(relativeLinks(text)).toEqual(["docs/a.md#b", "x.png", "#h"]);
  });

  test("makes anchors of headings", () => {
    expect(anchorsOf("# GPU not found\n```\n# no heading\n```\n## What a `run` leaves, 2\n")).toEqual([
      "gpu-not-found",
      "what-a-run-leaves-2",
    ]);
  });
});
