import { chalk } from "zx";
import { formatBytes, formatDuration } from "../../../stacks/settings/units.ts";
import { ago } from "../overview.ts";
import { formatTable } from "../table.ts";
import type { Status } from "./format.ts";
import { type Job, numericMetrics, type QueueState, type Runner } from "./state.ts";
import { fileProblem, toProblem } from "./validate.ts";

const COLOURS: Readonly<Record<Status, (text: string) => string>> = {
  pending: chalk.dim,
  running: chalk.cyan,
  completed: chalk.green,
  failed: chalk.red,
  timeout: chalk.red,
  error: chalk.red,
  cancelled: chalk.yellow,
};

/** A runner renews its word every 15 minutes; one that has not for twice that is gone. */
const RUNNER_SILENT_SECONDS = 1800;

/** Who runs what, since when, and what it said last. */
export function formatStatus(state: QueueState, lastLines: ReadonlyMap<string, string>): string {
  if (state.commit === undefined) {
    const missing = `There is no branch ${state.branch}: npm run experiment -- submit NAME --command '…' makes it.`;
    return [missing, ...runnerLines(state)].join("\n");
  }
  const rows = state.jobs.map((job) => [
    job.name,
    COLOURS[job.status](job.status),
    job.claim?.runner ?? job.runner ?? "–",
    since(job),
    words(job, state.jobs, lastLines.get(job.name)),
  ]);
  return [
    ...(rows.length === 0 ? [] : [formatTable(["EXPERIMENT", "STATUS", "RUNNER", "SINCE", "LAST LINE"], rows), ""]),
    formatSummary(state),
    ...runnerLines(state),
  ].join("\n");
}

function since({ status, startedAt, endedAt, claim }: Job): string {
  if (status === "running") {
    const begun = startedAt === undefined ? "?" : ago(startedAt);
    return claim === undefined ? `${begun}, ${chalk.yellow("nobody holds it")}` : begun;
  }
  if (endedAt !== undefined) return ago(endedAt);
  return "–";
}

/** What it said last, or why it ended or does not begin. */
function words(job: Job, jobs: readonly Job[], lastLine: string | undefined): string {
  const { status, message, needs, results } = job;
  if (status === "pending") {
    const unmet = needs.filter((need) =>
      jobs.some(({ name, sweep, status }) => (name === need || sweep === need) && status !== "completed"),
    );
    if (unmet.length > 0) return chalk.dim(`after ${unmet.join(", ")}`);
  }
  if (status === "failed" && message === undefined) {
    return [`exit code ${results?.exit_code ?? "unknown"}`, lastLine].filter(Boolean).join(": ");
  }
  return lastLine ?? message ?? "";
}

/** How many there are of each status, and what is wrong with the file. */
export function formatSummary(state: QueueState): string {
  const none = fileProblem(state.problems) === undefined ? `${state.branch} has no experiments.` : undefined;
  const counts = state.jobs.length === 0 ? none : summaryLine(state.jobs);
  return [counts ?? "", problemLines(state).join("\n")].filter((part) => part !== "").join("\n\n");
}

/** Example: `2 completed, 1 failed, 3 pending`. */
export function summaryLine(jobs: readonly Job[]): string {
  const counts = new Map<Status, number>();
  for (const { status } of jobs) counts.set(status, (counts.get(status) ?? 0) + 1);
  const order: readonly Status[] = ["completed", "failed", "timeout", "error", "cancelled", "running", "pending"];
  const parts = order.flatMap((status) =>
    counts.has(status) ? [COLOURS[status](`${counts.get(status)} ${status}`)] : [],
  );
  return parts.join(", ");
}

function runnerLines({ runners, jobs }: QueueState): readonly string[] {
  const unfinished = jobs.some(({ status }) => status === "pending" || status === "running");
  if (runners.length === 0) {
    return unfinished
      ? [chalk.yellow("no runner has ever been here: npm run experiment -- serve, or npm run notebook -- daemon")]
      : [];
  }
  return ["", ...runners.map(runnerLine)];
}

function runnerLine({ runner, host, state, updated_at, gpus, running, problems }: Runner): string {
  const seconds = (Date.now() - Date.parse(updated_at)) / 1000;
  const silent = state !== "stopped" && seconds > RUNNER_SILENT_SECONDS;
  const devices = gpus.length === 0 ? "no GPU" : gpus.map(({ name, index }) => name ?? `GPU ${index}`).join(", ");
  const what = silent
    ? chalk.yellow(`silent for ${formatDuration(seconds)}`)
    : state === "running"
      ? `runs ${running.join(", ")}`
      : state;
  return [
    `runner ${runner}${host == null ? "" : ` on ${host}`}: ${what} (${devices}; ${ago(updated_at)})`,
    ...problems.map(({ message, remedy }) => `  ${chalk.red(message)}${remedy == null ? "" : `\n    → ${remedy}`}`),
  ].join("\n");
}

function problemLines({ problems, branch }: QueueState): readonly string[] {
  if (problems.length === 0) return [];
  return [
    chalk.red(
      `${problems.length === 1 ? "1 problem" : `${problems.length} problems`} in experiments.json of ${branch}:`,
    ),
    ...problems.map((problem) => {
      const { path, value, reason, remedy } = toProblem(problem, "experiments.json");
      return `  ${path}${value === undefined ? "" : ` = ${value}`} ${reason}\n    → ${remedy}`;
    }),
  ];
}

/** What came of each that ended: status, exit code, time, metrics and outputs. */
export function formatOutputs(jobs: readonly Job[]): string {
  const ended = jobs.filter(({ results }) => results !== undefined);
  if (ended.length === 0) return "";
  const metrics = [...new Set(ended.flatMap(({ results }) => Object.keys(numericMetrics(results))))].slice(0, 5);
  const rows = ended.map((job) => {
    const { results } = job;
    const values = numericMetrics(results);
    return [
      job.name,
      COLOURS[job.status](job.status),
      results?.exit_code == null ? "–" : String(results.exit_code),
      results?.seconds == null ? "–" : formatDuration(results.seconds),
      ...metrics.map((metric) => shortNumber(values[metric])),
      outputs(job),
    ];
  });
  return formatTable(["EXPERIMENT", "STATUS", "EXIT", "TIME", ...metrics, "OUTPUTS"], rows);
}

function outputs({ results }: Job): string {
  if (results?.outputs == null) return "–";
  const size =
    results.outputs_bytes == null
      ? ""
      : ` (${results.outputs_files === 1 ? "1 file" : `${results.outputs_files ?? "?"} files`}, ${formatBytes(results.outputs_bytes)})`;
  return `${results.outputs}${results.host == null ? "" : ` on ${results.host}`}${size}`;
}

function shortNumber(value: number | undefined): string {
  if (value === undefined) return "–";
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5)));
}
