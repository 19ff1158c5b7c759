import { formatProblems, type Problem, SettingsError } from "../../stacks/settings/problems.ts";

/** Exit codes of the commands, by cause. */
export const EXIT = {
  /** A defect of ours; the stack trace is shown. */
  defect: 1,
  /** The command line or the settings are wrong. */
  settings: 2,
  /** Something that the machine must offer is missing, or in use. */
  machine: 3,
  /** The network, a registry or a download host does not answer. */
  network: 4,
  /** Pulumi could not bring the stack up. */
  stack: 5,
  /** The run failed. */
  run: 6,
  /** Refused, because something would be lost. */
  refused: 7,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** A failure that a person can mend: told without a stack trace. */
export class UserError extends Error {
  override readonly name = "UserError";

  constructor(
    readonly problems: readonly Problem[],
    readonly exitCode: ExitCode,
    readonly subject: string,
  ) {
    super(formatProblems(problems, subject));
  }
}

/** One problem with the machine or its engine. */
export function machineError(problem: Problem): UserError {
  return new UserError([problem], EXIT.machine, "machine");
}

/** One problem with what was typed. */
export function usageError(problem: Problem): UserError {
  return new UserError([problem], EXIT.settings, "command line");
}

const closing: (() => Promise<void>)[] = [];

/** Has something done when the command ends, well or not: what it made for itself elsewhere is taken away. */
export function atEnd(close: () => Promise<void>): void {
  closing.push(close);
}

/** Runs a command's body; explains what a person can mend, and leaves with the code of its cause. */
export async function runCommand(body: () => Promise<void>): Promise<never> {
  try {
    await body().finally(() => Promise.allSettled(closing.map((close) => close())));
    process.exit(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof UserError) {
      console.error(error.message);
      process.exit(error.exitCode);
    }
    if (error instanceof SettingsError) {
      console.error(error.message);
      process.exit(error.subject === "settings" ? EXIT.settings : EXIT.machine);
    }
    console.error(error);
    process.exit(EXIT.defect);
  }
}
