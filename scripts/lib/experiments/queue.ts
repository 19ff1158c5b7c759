import { resolve } from "node:path";
import type { Parsed } from "../options.ts";
import { readInputs } from "../stack.ts";
import type { Queue } from "./branch.ts";
import { Git } from "./git.ts";

/** Where the person typed the command: npm itself goes to the project's folder. */
export function queueDirectory(): string {
  return process.env.INIT_CWD ?? process.cwd();
}

/** The queue that a command works on, by its options and the settings. */
export function queueOf(options: Parsed): Queue {
  const { experiments } = readInputs(options.stack).settings;
  const directory = resolve(queueDirectory(), options.text("directory") ?? ".");
  return {
    git: new Git(directory),
    remote: options.text("remote") ?? experiments.repository ?? "origin",
    branch: options.text("branch") ?? experiments.branch,
  };
}
