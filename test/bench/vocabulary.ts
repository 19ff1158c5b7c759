import { pythonBenchmark } from "./lib/python.ts";

export const benchmark = pythonBenchmark(
  "vocabulary",
  "memory, time and gradients of the loss at 256,000 words, against whole logits and TRL's own chunks",
);
