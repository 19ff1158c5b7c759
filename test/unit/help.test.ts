import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { CommandSpec } from "../../scripts/lib/options.ts";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";

const parsed = vi.hoisted(() => ({ specs: [] as CommandSpec[] }));

vi.mock(import("../../scripts/lib/options.ts"), async (original) => {
  const { parseCommand, ...rest } = await original();
  return {
    ...rest,
    parseCommand: (spec, argv) => {
      parsed.specs.push(spec);
      return parseCommand(spec, argv);
    },
  };
});

const { scripts } = JSON.parse(readFileSync(join(PROJECT_DIR, "package.json"), "utf8")) as {
  scripts: Readonly<Record<string, string>>;
};

/** Commands of package.json that are files of scripts/, by their name. */
const commands = Object.entries(scripts).flatMap(([name, command]) => {
  const file = /^node scripts\/run\.mjs (\S+)$/.exec(command)?.[1];
  return file === undefined ? [] : [{ name, file: `${file}.mts` }];
});

const argv = process.argv;

beforeEach(() => {
  parsed.specs.length = 0;
});

afterEach(() => {
  process.argv = argv;
  vi.restoreAllMocks();
});

class Left extends Error {}

/** Runs a command with --help as a person would, and gives what it prints and the code that it leaves with. */
async function help(file: string): Promise<{ text: string; code: unknown }> {
  const printed: string[] = [];
  let code: unknown;
  vi.spyOn(console, "log").mockImplementation((text: unknown) => void printed.push(String(text)));
  vi.spyOn(console, "error").mockImplementation(() => undefined);
  vi.spyOn(process, "exit").mockImplementation((given) => {
    code ??= given ?? 0;
    throw new Left();
  });
  process.argv = [...argv.slice(0, 2), "--help"];
  await import(join(PROJECT_DIR, "scripts", file)).catch((error: unknown) => {
    if (!(error instanceof Left)) throw error;
  });
  return { text: printed.join("\n"), code };
}

describe("npm run NAME -- --help", () => {
  test.each([...commands, { name: "start", file: "start.mts" }])("$name", async ({ name, file }) => {
    const { text, code } = await help(file);
    expect(code).toBe(0);
    const [spec] = parsed.specs;
    if (spec === undefined) throw new Error("the command parsed nothing");
    expect(spec.name, "its name in the help").toBe(name);
    expect(text).toContain(`npm run ${name} -- [options]`);
    expect(text).toContain(spec.summary);
    const options = [...Object.keys(spec.options ?? {}), "stack", "help", ...(spec.json === true ? ["json"] : [])];
    for (const option of options) expect(text).toContain(`--${option}`);
    for (const line of text.split("\n")) expect(line.length, line).toBeLessThanOrEqual(160);
  });
});

test("each script is a command, and each command a script", () => {
  const files = readdirSync(join(PROJECT_DIR, "scripts")).filter((file) => file.endsWith(".mts"));
  expect(["start.mts", ...commands.map(({ file }) => file)].sort()).toEqual(files.sort());
  expect(existsSync(join(PROJECT_DIR, "scripts/start.mjs"))).toBe(true);
});
