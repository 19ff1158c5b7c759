import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { stringify } from "yaml";

const GOLDEN_DIR = join(dirname(fileURLToPath(import.meta.url)), "..", "golden");

/** Set by `npm run golden`, which renews the files; their diff is read like code. */
const renewing = process.env.UPDATE_GOLDEN === "1";

/** Compares plain data with a golden file, keys sorted: JSON, or YAML with a document for each of a list's items. */
export function expectGolden(file: string, value: unknown): void {
  const path = join(GOLDEN_DIR, file);
  const text = file.endsWith(".yaml") ? yamlText(value) : `${JSON.stringify(sorted(value), null, 2)}\n`;
  if (renewing) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  expect(text, `differs from test/golden/${file}; where that is meant: npm run golden`).toBe(
    readFileSync(path, "utf8"),
  );
}

function yamlText(value: unknown): string {
  const documents = Array.isArray(value) ? value : [value];
  return documents
    .map((document) => stringify(sorted(document), { lineWidth: 0, aliasDuplicateObjects: false }))
    .join("---\n");
}

export function goldenFiles(folder: string): readonly string[] {
  return readdirSync(join(GOLDEN_DIR, folder)).sort();
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sorted(inner)]),
  );
}
