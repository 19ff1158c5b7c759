import type { NodeGpuName } from "../../../stacks/settings/gpu-nodes.ts";
import type { StackInputs } from "../../../stacks/settings/load.ts";
import { UserError } from "../errors.ts";
import { entriesAt, fetchBranch, type Queue } from "../experiments/branch.ts";
import { type Experiment, type MatrixValue, queueText } from "../experiments/format.ts";
import { Git } from "../experiments/git.ts";
import { valueText } from "../experiments/matrix.ts";
import { jobsOf } from "../experiments/state.ts";
import { readQueue } from "../experiments/validate.ts";
import { PROJECT_DIR } from "../project.ts";
import type { Estimated, Estimator } from "./estimates.ts";
import type { Place } from "./place.ts";

/** Something that is going to run: the stack's own run, or a pending experiment of its queue. */
export interface Work {
  readonly kind: "run" | "experiment";
  readonly name: string;
  /** Arguments for the estimate; undefined for a command, of which nothing is known. */
  readonly args: readonly string[] | undefined;
  /** How many GPUs it takes for itself. */
  readonly gpus: number;
  /** When it is ended; undefined where nobody ends it. */
  readonly timeoutSeconds: number | undefined;
}

/** What a piece of work is expected to take. */
export interface Forecast extends Pick<Work, "kind" | "name" | "timeoutSeconds"> {
  readonly memoryBytes: number | undefined;
  readonly deviceMemoryBytes: number | undefined;
  readonly verdict: "fits" | "tight" | "too large" | undefined;
  /** At the speed of `source`; undefined where nothing is known. */
  readonly seconds: number | undefined;
  /** Where the speed is from, for people. */
  readonly source: string | undefined;
  /** In US dollars, until it ends or is ended; undefined where nothing is rented or nothing is known. */
  readonly cost: number | undefined;
  /** The most that it can cost, by its timeout. */
  readonly costAtMost: number | undefined;
  /** Why something is not known. */
  readonly reason: string | undefined;
}

/** What all that is going to run is expected to take. */
export interface Forecasts {
  readonly work: readonly Forecast[];
  /** How many more are pending than were looked at. */
  readonly more: number;
  /** Why the queue could not be read. */
  readonly unread: string | undefined;
}

/** An estimate takes a third of a second. */
const MOST = 40;
const AT_ONCE = 4;

/** The GPUs by the names that the estimate has for them. */
export const ESTIMATED_AS: Readonly<Record<NodeGpuName, string>> = {
  T4: "t4",
  L4: "l4",
  "A100-40": "a100-40gb",
  "A100-80": "a100-80gb",
  H100: "h100",
  "RTX-4090": "rtx-4090",
};

/** What a forecast is made with. */
export interface Forecaster {
  readonly place: Place;
  readonly estimate: Estimator;
  /** Undefined where no runner waits for experiments. */
  readonly queue: Queue | undefined;
}

/** The queue that the stack's runner takes experiments from; undefined where it has none. */
export function queueOf({ settings: { profiles, experiments } }: StackInputs): Queue | undefined {
  if (!profiles.includes("experiments")) return undefined;
  return { git: new Git(PROJECT_DIR), remote: experiments.repository ?? "origin", branch: experiments.branch };
}

/**
 * What the stack's run and the pending experiments of its queue would take.
 * @returns undefined where nothing is rented and no runner waits for experiments.
 */
export async function forecast(
  { settings }: StackInputs,
  { place, estimate, queue }: Forecaster,
): Promise<Forecasts | undefined> {
  const run = place.rented && settings.profiles.includes("training") ? [runOf(settings.training, place)] : [];
  const pending = queue === undefined ? { work: [], unread: undefined } : await readPending(queue);
  const all = [...run, ...pending.work];
  if (all.length === 0 && pending.unread === undefined) return undefined;
  const work: Forecast[] = [];
  for (let begin = 0; begin < Math.min(all.length, MOST); begin += AT_ONCE) {
    const some = all.slice(begin, Math.min(begin + AT_ONCE, MOST));
    work.push(...(await Promise.all(some.map(async (one) => await forecastOne(one, place, estimate)))));
  }
  return { work, more: all.length - work.length, unread: pending.unread };
}

function runOf(training: StackInputs["settings"]["training"], { gpus }: Place): Work {
  return {
    kind: "run",
    name: training.run,
    args: estimateArguments(training, training.set),
    gpus,
    timeoutSeconds: undefined,
  };
}

interface Pending {
  readonly work: readonly Work[];
  readonly unread: string | undefined;
}

async function readPending(queue: Queue): Promise<Pending> {
  try {
    const entries = await entriesAt(queue.git, await fetchBranch(queue));
    return { work: pendingWork(readQueue(queueText(entries)).experiments), unread: undefined };
  } catch (error) {
    // Whoever previews need not have access to the queue; the rest is told all the same.
    if (error instanceof UserError) return { work: [], unread: error.problems[0]?.reason ?? error.message };
    throw error;
  }
}

/** The experiments that wait for a runner, those of a matrix one by one. */
export function pendingWork(experiments: readonly Experiment[]): readonly Work[] {
  return experiments.flatMap((experiment) =>
    jobsOf(experiment)
      .filter(({ status }) => status === "pending")
      .map(({ name, parameters }) => ({
        kind: "experiment" as const,
        name,
        args: experiment.command === undefined ? argumentsOf(experiment, parameters) : undefined,
        gpus: experiment.gpus ?? 1,
        timeoutSeconds: experiment.timeout ?? 3600,
      })),
  );
}

/** A value of the matrix is a setting of the run, its preset, or its model; as the runner has it. */
function argumentsOf(
  { preset, model, set }: Pick<Experiment, "preset" | "model" | "set">,
  parameters: Readonly<Record<string, MatrixValue>>,
): readonly string[] {
  const { preset: asPreset, model: asModel, data: _data, ...more } = parameters;
  return estimateArguments(
    {
      preset: asPreset === undefined ? preset : valueText(asPreset),
      model: asModel === undefined ? model : valueText(asModel),
    },
    { ...set, ...more },
  );
}

function estimateArguments(
  { preset, model }: { readonly preset?: string | undefined; readonly model?: string | undefined },
  set: Readonly<Record<string, MatrixValue>>,
): readonly string[] {
  return [
    ...(preset === undefined ? [] : [`--preset=${preset}`]),
    ...(model === undefined ? [] : [`--model=${model}`]),
    ...Object.entries(set).map(([key, value]) => `--set=${key}=${valueText(value)}`),
  ];
}

async function forecastOne(work: Work, place: Place, estimate: Estimator): Promise<Forecast> {
  const { kind, name, timeoutSeconds } = work;
  const found = await estimated(work, place, estimate);
  const costAtMost = costOf(place, timeoutSeconds);
  const rest = { kind, name, timeoutSeconds, costAtMost };
  if ("reason" in found) return { ...rest, ...NOTHING, reason: found.reason };
  const seconds = found.seconds ?? undefined;
  const fits = found.verdict !== "too large";
  return {
    ...rest,
    memoryBytes: found.memory_bytes,
    deviceMemoryBytes: found.device_memory_bytes,
    verdict: found.verdict,
    seconds: fits ? seconds : undefined,
    source: found.time_source ?? undefined,
    cost: fits && seconds !== undefined ? costOf(place, Math.min(seconds, timeoutSeconds ?? seconds)) : undefined,
    reason: undefined,
  };
}

const NOTHING = {
  memoryBytes: undefined,
  deviceMemoryBytes: undefined,
  verdict: undefined,
  seconds: undefined,
  source: undefined,
  cost: undefined,
} as const;

async function estimated({ args, gpus }: Work, { gpu }: Place, estimate: Estimator): Promise<Estimated> {
  if (args === undefined) return { reason: "a command, of which nothing is known" };
  if (gpus === 0 || gpu === undefined) return { reason: "on the CPU, for which nothing is known" };
  const device = gpu === "here" ? [] : [`--gpu=${ESTIMATED_AS[gpu]}`];
  return await estimate([...args, ...device, ...(gpus > 1 ? [`--processes=${gpus}`] : [])]);
}

function costOf({ perHour }: Place, seconds: number | undefined): number | undefined {
  return perHour === undefined || seconds === undefined ? undefined : (perHour * seconds) / 3600;
}
