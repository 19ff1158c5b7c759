import { pythonBenchmark } from "./lib/python.ts";

export const benchmark = pythonBenchmark(
  "tokenise",
  "tokens and labels of a data file, new and from the cache, against datasets.map with its defaults",
);
