import { z } from "zod";
import { fetchBranch, fetchRunners, fileAt, type Queue } from "./branch.ts";
import { ENDED, type Experiment, type MatrixValue, QUEUE_FILE, RESULTS_FOLDER, type Status } from "./format.ts";
import { childrenOf } from "./matrix.ts";
import { type QueueProblem, readQueue } from "./validate.ts";

const gpu = z.looseObject({ index: z.number(), name: z.string().nullish() });

const claimSchema = z.looseObject({
  experiment: z.string(),
  runner: z.string(),
  host: z.string().nullish(),
  attempt: z.number(),
  lease_seconds: z.number(),
  started_at: z.string(),
  gpus: z.array(gpu).default([]),
});

const runnerSchema = z.looseObject({
  runner: z.string(),
  host: z.string().nullish(),
  state: z.string(),
  updated_at: z.string(),
  running: z.array(z.string()).default([]),
  gpus: z.array(gpu).default([]),
  poll_seconds: z.number().nullish(),
  problems: z.array(z.looseObject({ code: z.string(), message: z.string(), remedy: z.string().nullish() })).default([]),
});
export type Runner = z.output<typeof runnerSchema>;

const resultsSchema = z.looseObject({
  name: z.string(),
  status: z.string(),
  exit_code: z.number().nullish(),
  message: z.string().nullish(),
  seconds: z.number().nullish(),
  commit: z.string().nullish(),
  runner: z.string().nullish(),
  host: z.string().nullish(),
  metrics: z.record(z.string(), z.unknown()).nullish(),
  outputs: z.string().nullish(),
  outputs_bytes: z.number().nullish(),
  outputs_files: z.number().nullish(),
});
export type Results = z.output<typeof resultsSchema>;

/** A thing that runs: an experiment without a matrix, or a child of one with. */
export interface Job {
  readonly name: string;
  readonly status: Status;
  /** Name of the experiment with the matrix; undefined for an experiment of its own. */
  readonly sweep: string | undefined;
  readonly parameters: Readonly<Record<string, MatrixValue>>;
  readonly runner: string | undefined;
  readonly startedAt: string | undefined;
  readonly endedAt: string | undefined;
  readonly message: string | undefined;
  readonly needs: readonly string[];
  /** The claim's newest heartbeat; undefined where nobody has it. */
  readonly claim: (z.output<typeof claimSchema> & { readonly beatAt: string; readonly commit: string }) | undefined;
  readonly results: Results | undefined;
}

/** The queue as the server has it now. */
export interface QueueState {
  readonly branch: string;
  /** Undefined where there is no such branch. */
  readonly commit: string | undefined;
  readonly jobs: readonly Job[];
  readonly runners: readonly Runner[];
  readonly problems: readonly QueueProblem[];
}

/** Looks at the server: the branch, the claims and the runners. */
export async function readState(queue: Queue): Promise<QueueState> {
  const { git, branch } = queue;
  const commit = await fetchBranch(queue);
  const refs = await fetchRunners(queue);
  const { experiments, problems } = readQueue((await fileAt(git, commit, QUEUE_FILE)) ?? "[]");
  const known = experiments.flatMap(jobsOf);
  const claims = [...refs].filter(([ref]) => ref.startsWith("claims/")).map(([, at]) => `${at}:claim.json`);
  const runners = [...refs].filter(([ref]) => ref.startsWith("runners/")).map(([, at]) => `${at}:runner.json`);
  const ended = commit === undefined ? [] : known.filter(({ status }) => ENDED.has(status));
  const blobs = git.blobs([...claims, ...runners, ...ended.map(({ name }) => resultsAt(commit, name))]);
  return {
    branch,
    commit,
    jobs: await Promise.all(known.map((job) => withFacts(queue, commit, refs, blobs, job))),
    runners: runners.flatMap((name) => parsed(runnerSchema, blobs.get(name)) ?? []),
    problems,
  };
}

function resultsAt(commit: string | undefined, name: string): string {
  return `${commit}:${RESULTS_FOLDER}/${name}/results.json`;
}

/** What runs of an experiment: itself, or the children of its matrix. */
export function jobsOf(experiment: Experiment): readonly Omit<Job, "claim" | "results">[] {
  const { name, status, attempt, needs, children } = experiment;
  const of = (state: Pick<Experiment, "status" | "attempt">) => ({
    status: state.status ?? "pending",
    runner: state.attempt?.runner,
    startedAt: state.attempt?.started_at,
    endedAt: state.attempt?.ended_at,
    message: state.attempt?.message,
    needs: needs ?? [],
  });
  if (experiment.matrix === undefined) return [{ name, sweep: undefined, parameters: {}, ...of({ status, attempt }) }];
  return childrenOf(experiment).map((child) => {
    const state = children?.[child.name] ?? {};
    // A sweep that was cancelled as a whole has cancelled those of its children that have not ended.
    const cancelled = status === "cancelled" && (state.status ?? "pending") === "pending" ? { status } : state;
    return { name: child.name, sweep: name, parameters: child.values, ...of(cancelled) };
  });
}

async function withFacts(
  { git }: Queue,
  commit: string | undefined,
  refs: ReadonlyMap<string, string>,
  blobs: ReadonlyMap<string, Buffer>,
  job: Omit<Job, "claim" | "results">,
): Promise<Job> {
  const results = parsed(resultsSchema, blobs.get(resultsAt(commit, job.name)));
  const at = refs.get(`claims/${job.name}`);
  const claim = at === undefined ? undefined : parsed(claimSchema, blobs.get(`${at}:claim.json`));
  if (at === undefined || claim === undefined) return { ...job, results, claim: undefined };
  const beatAt = await git.text(["show", "--no-patch", "--format=%cI", at]);
  return { ...job, results, claim: { ...claim, commit: at, beatAt } };
}

function parsed<T>(schema: z.ZodType<T>, content: Buffer | undefined): T | undefined {
  if (content === undefined) return undefined;
  try {
    return schema.safeParse(JSON.parse(content.toString("utf8"))).data;
  } catch {
    return undefined;
  }
}

/** The last line of each job that runs, or that failed without saying why, as far as the server has it. */
export function lastLines({ git }: Queue, { commit, jobs }: QueueState): ReadonlyMap<string, string> {
  const logs = new Map<string, string>();
  for (const { name, claim, status, message } of jobs) {
    if (claim !== undefined) logs.set(name, `${claim.commit}:execution.log`);
    else if (status === "failed" && message === undefined)
      logs.set(name, `${commit}:${RESULTS_FOLDER}/${name}/execution.log`);
  }
  const blobs = git.blobs([...logs.values()]);
  return new Map([...logs].map(([name, log]) => [name, lastLine(blobs.get(log)?.toString("utf8") ?? "")]));
}

function lastLine(log: string): string {
  const line =
    log
      .trimEnd()
      .split(/[\r\n]/)
      .at(-1) ?? "";
  return line.slice(0, 80);
}

/** The end of a job's log as it is known on the server: of the claim while it runs, of the results afterwards. */
export async function logOf({ git }: Queue, commit: string | undefined, job: Job): Promise<string> {
  if (job.claim !== undefined) return (await fileAt(git, job.claim.commit, "execution.log")) ?? "";
  return (await fileAt(git, commit, `${RESULTS_FOLDER}/${job.name}/execution.log`)) ?? "";
}

/** Metrics that are numbers, which is what a table and a picture can show. */
export function numericMetrics(results: Results | undefined): Readonly<Record<string, number>> {
  const numbers = Object.entries(results?.metrics ?? {}).filter(
    (pair): pair is [string, number] => typeof pair[1] === "number",
  );
  return Object.fromEntries(numbers);
}
