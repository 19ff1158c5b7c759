import { isRecord } from "../../../stacks/settings/layers.ts";
import type { Problem } from "../../../stacks/settings/problems.ts";
import { parseDuration } from "../../../stacks/settings/units.ts";
import { parseSettings } from "../assignments.ts";
import { EXIT, UserError } from "../errors.ts";
import type { Parsed } from "../options.ts";
import { type MatrixValue, QUEUE_FILE, queueText } from "./format.ts";
import { type QueueProblem, readQueue, toProblem } from "./validate.ts";

/** An experiment as it is typed, in the form of the file. @throws UserError with all that is wrong with it. */
export function typedExperiment(name: string, options: Parsed): Readonly<Record<string, unknown>> {
  const problems: Problem[] = [];
  const matrix = parseMatrix(options.list("matrix"), problems);
  const set = parseSettings(options.list("set"));
  const experiment = {
    name,
    command: options.text("command"),
    preset: options.text("preset"),
    model: options.text("model"),
    data: options.text("data"),
    set: Object.keys(set).length === 0 ? undefined : parseValues(set),
    status: "pending",
    description: options.text("description"),
    timeout: seconds(options.text("timeout"), problems),
    needs: options.text("needs")?.split(","),
    matrix,
    gpus: whole("gpus", options.text("gpus"), problems),
    retries: whole("retries", options.text("retries"), problems),
  };
  const typed = Object.fromEntries(Object.entries(experiment).filter(([, value]) => value !== undefined));
  problems.push(
    ...readQueue(queueText([typed]))
      .problems.filter(isOwn)
      .map(withoutLine),
  );
  if (problems.length > 0) throw new UserError(problems, EXIT.settings, "command line");
  return typed;
}

/** What an experiment needs may be on the branch already; it is looked for there. */
function isOwn({ code }: QueueProblem): boolean {
  return code !== "needs-unknown";
}

/** `lr=1e-4,2e-4`: numbers, true and false as such, anything else as text. */
function parseMatrix(given: readonly string[], problems: Problem[]): Record<string, MatrixValue[]> | undefined {
  if (given.length === 0) return undefined;
  const matrix: Record<string, MatrixValue[]> = {};
  for (const one of given) {
    const [, key, values] = /^([A-Za-z_][A-Za-z0-9_]*)=(.+)$/s.exec(one) ?? [];
    if (key === undefined || values === undefined) {
      const remedy = "write it as --matrix lr=1e-4,2e-4, once for each key";
      problems.push({ path: "--matrix", value: one, reason: "is not KEY=VALUE,VALUE", remedy });
    } else matrix[key] = values.split(",").map(parseValue);
  }
  return matrix;
}

export function parseValue(text: string): MatrixValue {
  if (text === "true" || text === "false") return text === "true";
  return /^-?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : text;
}

function parseValues(set: Readonly<Record<string, string>>): Record<string, MatrixValue> {
  return Object.fromEntries(Object.entries(set).map(([key, text]) => [key, parseValue(text)]));
}

function seconds(text: string | undefined, problems: Problem[]): number | undefined {
  if (text === undefined) return undefined;
  const parsed = parseDuration(text);
  if (parsed !== undefined && parsed >= 1) return Math.round(parsed);
  problems.push({
    path: "--timeout",
    value: text,
    reason: "is no duration",
    remedy: "write it as --timeout 90m or 2h",
  });
  return undefined;
}

function whole(option: string, text: string | undefined, problems: Problem[]): number | undefined {
  if (text === undefined || /^\d+$/.test(text)) return text === undefined ? undefined : Number(text);
  problems.push({
    path: `--${option}`,
    value: text,
    reason: "is not a whole number",
    remedy: `write it as --${option} 1`,
  });
  return undefined;
}

/** The experiments of a file that is submitted: a list of them, or one. @throws UserError with problems by line. */
export function experimentsOfFile(text: string, file: string): readonly Readonly<Record<string, unknown>>[] {
  const single = readQueue(text).problems.some(({ code }) => code === "list");
  // Its lines stay what they are in the file.
  const { entries, problems } = readQueue(single ? `[${text}]` : text);
  const own = problems.filter(isOwn);
  if (own.length > 0)
    throw new UserError(
      own.map((problem) => toProblem(problem, file)),
      EXIT.settings,
      `file ${file}`,
    );
  return entries.filter(isRecord);
}

export interface Added {
  readonly entries: readonly unknown[];
  /** Problems that were in the queue before, of other experiments. */
  readonly others: readonly QueueProblem[];
}

/**
 * The queue with experiments at its end.
 * @throws UserError where a name is taken, or something is wrong with what is added.
 */
export function addExperiments(queue: readonly unknown[], added: readonly Readonly<Record<string, unknown>>[]): Added {
  const taken = new Set(queue.filter(isRecord).map(({ name }) => name));
  const twice = added.filter(({ name }) => taken.has(name));
  if (twice.length > 0) {
    throw new UserError(
      twice.map(({ name }) => ({
        path: `experiment ${String(name)}`,
        reason: "is in the queue already",
        remedy: `give another name; or run it again: npm run experiment -- retry ${String(name)}`,
      })),
      EXIT.refused,
      "queue",
    );
  }
  const entries = [...queue, ...added];
  const names = new Set(added.map(({ name }) => name));
  const { problems } = readQueue(queueText(entries));
  const own = problems.filter(({ index }) => index !== undefined && index >= queue.length);
  if (own.length > 0) throw new UserError(own.map(withoutLine), EXIT.settings, "experiment");
  return { entries, others: problems.filter(({ experiment }) => experiment === undefined || !names.has(experiment)) };
}

/** What is typed has no lines. */
function withoutLine({ path, experiment, value, reason, remedy }: QueueProblem): Problem {
  const field = path.replace(/^\[\d+\]\.?/, "");
  return { path: [experiment ?? QUEUE_FILE, field].filter((part) => part !== "").join(": "), value, reason, remedy };
}
