import { pythonBenchmark } from "./lib/python.ts";

export const benchmark = pythonBenchmark(
  "overhead",
  "a training step against that of a plain TRL script, taking turns",
);
