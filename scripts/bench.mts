import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import {
  type Benchmark,
  type BenchResult,
  describeCommit,
  describeMachine,
  formatResult,
  readSizes,
  rounded,
} from "./lib/bench.ts";
import { runCommand, usageError } from "./lib/errors.ts";
import { parseCommand } from "./lib/options.ts";
import { PROJECT_DIR } from "./lib/project.ts";
import { step } from "./lib/steps.ts";
import { formatTable } from "./lib/table.ts";

const SPEC = {
  name: "bench",
  summary:
    "Lists the benchmarks, or runs one: side by side with what it is compared to. Not 0 where a bound does not hold.",
  operands: { names: "NAME", atMost: 1, help: "which one; without it they are listed" },
  options: {
    size: { type: "string", multiple: true, value: "NAME=N", help: "measures with so many; may be repeated" },
  },
  json: true,
} as const;

const FOLDER = join(PROJECT_DIR, "test", "bench");

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const name = options.operands[0];
  const names = benchmarkNames();
  if (name === undefined) {
    await list(names, options.json);
    return;
  }
  if (!names.includes(name)) {
    throw usageError({
      path: "NAME",
      value: name,
      reason: "is no benchmark",
      remedy: `use one of: ${names.join(", ")}`,
    });
  }
  const { run, sizes: own } = await load(name);
  const sizes = readSizes(options.list("size"), own);
  const measures = await step(`bench ${name}`, async (report) => ({
    said: "measured",
    value: await run(report, sizes),
  }));
  const plain = measures.map((one) => ({ ...one, value: one.value === null ? null : rounded(one.value) }));
  const result: BenchResult = { name, machine: await describeMachine(), commit: describeCommit(), measures: plain };
  console.log(options.json ? JSON.stringify(result, null, 2) : formatResult(result));
  if (!measures.every(({ holds }) => holds)) process.exitCode = 1;
});

function benchmarkNames(): readonly string[] {
  const files = existsSync(FOLDER) ? readdirSync(FOLDER) : [];
  return files.flatMap((file) => (file.endsWith(".ts") ? [file.slice(0, -".ts".length)] : [])).sort();
}

async function list(names: readonly string[], json: boolean): Promise<void> {
  const rows = await Promise.all(names.map(async (name) => ({ name, summary: (await load(name)).summary })));
  if (json) console.log(JSON.stringify({ benchmarks: rows }, null, 2));
  else
    console.log(
      formatTable(
        ["NAME", "WHAT IT MEASURES"],
        rows.map(({ name, summary }) => [name, summary]),
      ),
    );
}

async function load(name: string): Promise<Benchmark> {
  const module: { benchmark?: Benchmark } = await import(pathToFileURL(join(FOLDER, `${name}.ts`)).href);
  if (module.benchmark === undefined) throw new Error(`test/bench/${name}.ts exports no benchmark`);
  return module.benchmark;
}
