/** One thing that is wrong with what a person gave us, in the four parts that let them mend it. */
export interface Problem {
  /** Where: a settings path, a file with its line, a port, a container. Example: `services.jupyter.port`. */
  readonly path: string;
  /** What stands there now, as text; undefined where nothing does. Secrets never come here. */
  readonly value?: string | undefined;
  /** Why that does not work. Example: `is not a whole number from 1 to 65535`. */
  readonly reason: string;
  /** What to do about it. Example: `choose a free port, such as 8889`. */
  readonly remedy: string;
}

/** Several problems at once: thrown before anything is registered, so that nothing is half made. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";

  constructor(
    readonly problems: readonly Problem[],
    readonly subject = "settings",
  ) {
    super(formatProblems(problems, subject));
  }
}

/** The problems as a person reads them, one block each, in the order found. */
export function formatProblems(problems: readonly Problem[], subject = "settings"): string {
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  const blocks = problems.map(({ path, value, reason, remedy }) => {
    const shown = value === undefined ? "" : ` = ${value}`;
    return `  ${path}${shown}\n    ${reason}\n    → ${remedy}`;
  });
  return [`${count} in the ${subject}:`, ...blocks].join("\n");
}

/** A value as it is shown in a problem: JSON, cut at 80 characters. */
export function showValue(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
