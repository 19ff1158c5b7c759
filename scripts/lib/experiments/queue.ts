import { resolve } from "node:path";
import { loadStack } from "../../../stacks/settings/load.ts";
import type { Parsed } from "../options.ts";
import { PROJECT_DIR } from "../project.ts";
import type { Queue } from "./branch.ts";
import { Git } from "./git.ts";

/** Where the person typed the command: npm itself goes to the project's folder. */
export function queueDirectory(): string {
  return process.env.INIT_CWD ?? process.cwd();
}

/** The queue that a command works on, by its options and the settings. */
export function queueOf(options: Parsed): Queue {
  const { settings } = loadStack({ projectDir: PROJECT_DIR, stack: options.stack, environment: process.env });
  const { experiments } = settings;
  const directory = resolve(queueDirectory(), options.text("directory") ?? ".");
  return {
    git: new Git(directory),
    remote: options.text("remote") ?? experiments.repository ?? "origin",
    branch: options.text("branch") ?? experiments.branch,
  };
}
