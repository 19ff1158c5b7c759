import { pythonBenchmark } from "./lib/python.ts";

export const benchmark = pythonBenchmark(
  "resume",
  "200 runs killed or stopped at random moments: how many end bit for bit as the unbroken one, beside the plain Trainer's",
);
