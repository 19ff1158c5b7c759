import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { type Benchmark, isWithin, type Measure, measure } from "../../../scripts/lib/bench.ts";
import { machineError } from "../../../scripts/lib/errors.ts";
import { DEFAULT_STACK, PROJECT_DIR } from "../../../scripts/lib/project.ts";
import { setUp } from "../../../scripts/lib/setup/setup.ts";
import { readInputs } from "../../../scripts/lib/stack.ts";
import type { Report } from "../../../scripts/lib/steps.ts";
import { planImage } from "../../../stacks/plan/image.ts";
import { chooseAccelerator } from "../../../stacks/plan/plan.ts";
import { type Ended, runChild } from "../../lib/children.ts";
import { buildPythonImage, inPythonImage } from "../../lib/python-image.ts";

/** Names a Python that has the training packages; without it the benchmark runs in the image of the Python tests. */
export const PYTHON_VARIABLE = "TUNESTACK_BENCH_PYTHON";

const PACKAGE_DIR = join(PROJECT_DIR, "images", "qlora");

/** A benchmark that is a Python script: `images/qlora/bench/<name>.py`, see `measures.py` beside it. */
export function pythonBenchmark(name: string, summary: string): Benchmark {
  return {
    summary,
    run: async (report) => {
      const python = process.env[PYTHON_VARIABLE];
      const ended = python === undefined ? await inImage(name, report) : await onMachine(python, name, report);
      if (ended.code !== 0) throw new Error(`bench/${name}.py ended with ${ended.code}:\n${ended.output}`);
      return readMeasures(ended.output);
    },
  };
}

async function inImage(name: string, report: Report): Promise<Ended> {
  report("setting up");
  await setUp(DEFAULT_STACK);
  const inputs = readInputs(DEFAULT_STACK);
  report("building the image of the Python tests");
  const image = planImage(inputs, chooseAccelerator(inputs));
  const build = await buildPythonImage(image);
  if (build.code !== 0) throw new Error(`the image cannot be built:\n${build.output}`);
  report(`bench/${name}.py`);
  return await inPythonImage(["env", "PYTHONPATH=/package/src", "python", `/package/bench/${name}.py`], {
    network: false,
  });
}

async function onMachine(python: string, name: string, report: Report): Promise<Ended> {
  if (!existsSync(python)) {
    throw machineError({
      path: PYTHON_VARIABLE,
      value: python,
      reason: "is no program",
      remedy: "name a Python with the training packages, or leave it out: then the image is used",
    });
  }
  report(`bench/${name}.py on ${execFileSync(python, ["--version"], { encoding: "utf8" }).trim()}`);
  return await runChild(python, [join(PACKAGE_DIR, "bench", `${name}.py`)], {
    cwd: PACKAGE_DIR,
    environment: { PYTHONPATH: join(PACKAGE_DIR, "src") },
  });
}

const answerSchema = z.strictObject({
  measures: z
    .array(
      z.strictObject({
        name: z.string().min(1),
        value: z.number().nullable(),
        unit: z.string(),
        bound: z.string().nullable(),
      }),
    )
    .min(1),
});

/** Finds the measures in what a script said: they are the line that is a JSON object. */
export function readMeasures(output: string): readonly Measure[] {
  const line = output.split("\n").findLast((text) => text.startsWith('{"measures"'));
  if (line === undefined) throw new Error(`there are no measures in:\n${output}`);
  return answerSchema.parse(JSON.parse(line)).measures.map(({ name, value, unit, bound }) => {
    if (bound !== null) isWithin(0, bound);
    return measure(name, value, unit, bound ?? undefined);
  });
}
