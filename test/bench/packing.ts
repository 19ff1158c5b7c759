import { pythonBenchmark } from "./lib/python.ts";

export const benchmark = pythonBenchmark(
  "packing",
  "padding and tokens/s of packed rows, against padded batches; that documents do not feel their neighbours",
);
