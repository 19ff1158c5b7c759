import { z } from "zod";

/** The queue's file on its branch, and what runners put beside it. Format: docs/experiment-queue.md. */
export const QUEUE_FILE = "experiments.json";
export const RESULTS_FOLDER = "experiment-results";

export const STATUSES = ["pending", "running", "completed", "failed", "timeout", "error", "cancelled"] as const;
export type Status = (typeof STATUSES)[number];

/** An experiment that is in one of these has ended. */
export const ENDED: ReadonlySet<Status> = new Set<Status>(["completed", "failed", "timeout", "error", "cancelled"]);

/** 30 days. */
export const LONGEST_TIMEOUT_SECONDS = 2_592_000;
export const MOST_CHILDREN = 1000;
/** Of an experiment with a matrix, so that its children's names stay within git's and the file system's limits. */
export const LONGEST_MATRIX_NAME = 50;

/** Not `..`, and no ending that git refuses in a ref. */
const NAME = /^[a-z0-9](?!.*\.\.)[a-z0-9._-]{0,62}$(?<!\.)(?<!\.lock)/;

/** What a matrix and the settings of a run may hold. */
export function isValue(value: unknown): value is MatrixValue {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean";
}

export function isName(text: string): boolean {
  return NAME.test(text);
}

const name = z.string().regex(NAME, {
  error:
    "is no name: lower-case letters, digits, dots, hyphens and underscores, at most 63, beginning with a letter or digit; no .. within and no . or .lock at the end",
});
const value = z.union([z.string(), z.number(), z.boolean()], { error: "is neither text nor a number, true or false" });
const status = z.enum(STATUSES, { error: `is not one of ${STATUSES.join(", ")}` });
const whole = (least: number, most: number) =>
  z
    .int({ error: "is not a whole number" })
    .min(least, { error: `is less than ${least}` })
    .max(most, { error: `is more than ${most}` });
const text = z.string({ error: "is not text" });

const attempt = z.looseObject({
  number: z.int().min(0).optional().describe("Attempts so far, from 1."),
  runner: text.optional(),
  started_at: text.optional().describe("UTC, such as 2026-11-24T01:02:03Z."),
  ended_at: text.optional(),
  exit_code: z.int().optional().describe("Of the command; negative is the signal that ended it."),
  commit: text.optional().describe("Commit that it ran from."),
  failures: z.int().optional(),
  lost: z.int().optional(),
  message: text.optional(),
});

/** One experiment. Unknown fields are kept, and mean nothing. */
export const experimentSchema = z
  .looseObject({
    name: name.describe("Unique in the file; also the folder of its results."),
    command: text
      .min(1, { error: "is empty" })
      .optional()
      .describe(
        "Given to the shell, in a clean worktree of the branch's commit. {KEY} stands for a value of the matrix.",
      ),
    preset: text.min(1).optional().describe("In place of a command: a run of tunestack with this preset."),
    model: text.min(1).optional().describe("Hugging Face id or folder of the base model of that run."),
    data: text.min(1).optional().describe("Data of that run: a path within the repository, or hub:ID."),
    set: z
      .record(z.string(), value, { error: "is not an object of settings" })
      .optional()
      .describe("Settings of that run."),
    status: status.optional().describe("Default: pending."),
    timeout: whole(1, LONGEST_TIMEOUT_SECONDS).optional().describe("Whole seconds. Default: 3600."),
    description: text.optional().describe("For people."),
    needs: z
      .array(text, { error: "is not a list of names" })
      .optional()
      .describe("Experiments that have to be completed first; a matrix means all its children."),
    matrix: z
      .record(z.string(), z.array(value, { error: "is not a list of values" }).min(1, { error: "has no values" }), {
        error: "is not an object of lists",
      })
      .optional()
      .describe("A sweep: one child for each combination of the values."),
    gpus: whole(0, 64).optional().describe("GPUs for itself. Default: 1; 0 runs beside others on the CPU."),
    retries: whole(0, 100).optional().describe("How often it is tried again where it does not complete. Default: 0."),
    attempt: attempt.optional().describe("Written by runners."),
    children: z
      .record(z.string(), z.looseObject({ status: status.optional(), attempt: attempt.optional() }))
      .optional()
      .describe("Written by runners: what is known of a matrix' children, by name."),
  })
  .describe("One experiment");

/** Others are kept, and mean nothing. */
export const KNOWN_FIELDS: readonly string[] = Object.keys(experimentSchema.shape);

export type Experiment = z.output<typeof experimentSchema>;
export type Attempt = z.output<typeof attempt>;
export type MatrixValue = z.output<typeof value>;

export const queueSchema = z.array(experimentSchema).describe("Experiments, in the order in which they start");

/** The schema that editors read, for `"json.schemas"` of VS Code and the like. */
export function queueJsonSchema(): object {
  const { $schema, ...rest } = z.toJSONSchema(queueSchema, { io: "input", unrepresentable: "throw" });
  return { $schema, title: "Experiments of tunestack", ...rest };
}

/** The text of the file, as both sides write it. */
export function queueText(experiments: readonly unknown[]): string {
  return `${JSON.stringify(experiments, null, 2)}\n`;
}
