import { pythonBenchmark } from "./lib/python.ts";

export const benchmark = pythonBenchmark(
  "saving",
  "how long training waits for a checkpoint, written first and in the background",
);
