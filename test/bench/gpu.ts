import { pythonBenchmark } from "./lib/python.ts";

export const benchmark = pythonBenchmark(
  "gpu",
  "what simulating a GPU costs, and how well the GPU library counts memory and finds the batch that fits",
);
