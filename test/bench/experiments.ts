import { pythonBenchmark } from "./lib/python.ts";

export const benchmark = pythonBenchmark(
  "experiments",
  "the queue in git: 8 runners and 1,000 experiments with random kills; push to start; traffic of an idle runner",
);
