import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { $, chalk } from "zx";
import type { RunOutput, StackOutputs } from "../../stacks/outputs.ts";
import { makePlan } from "../../stacks/plan/plan.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { loadStack, type StackInputs } from "../../stacks/settings/load.ts";
import type { PresetName } from "../../stacks/settings/presets.ts";
import type { Profile, Settings } from "../../stacks/settings/schema.ts";
import { mendStack } from "./doctor/mend.ts";
import { followRun } from "./follow.ts";
import { openWorkloads, settle } from "./open-workloads.ts";
import { setPersonal } from "./personal.ts";
import { PROJECT_DIR } from "./project.ts";
import { progressLine, type RunStatus, readRunStatus } from "./run-status.ts";
import { secretFile, writeSecret } from "./setup/secrets.ts";
import { setUp } from "./setup/setup.ts";
import { bringUp, openStack, readInputs, readOutputs } from "./stack.ts";
import { step } from "./steps.ts";
import type { Workloads } from "./workloads.ts";

/** A run as a person asks for it. */
export interface RunRequest {
  readonly name: string | undefined;
  readonly preset: PresetName | undefined;
  readonly model: string | undefined;
  readonly data: string | undefined;
  readonly set: Readonly<Record<string, string>>;
}

/**
 * Starts a run, or goes on with the one of the same settings, and follows it to its end.
 * @throws UserError with everything that is missing, before anything is built.
 */
export async function trainAndFollow(stack: string, request: RunRequest): Promise<void> {
  takeToken(stack);
  const training = trainingSettings(stack, request, await gitCommit());
  makePlan(withTraining(stack, training));
  await setUp(stack);
  makePlan(withTraining(stack, training));
  await startTraining(stack, training);
}

async function startTraining(stack: string, training: RawSettings): Promise<void> {
  setPersonal(stack, { training, profiles: withProfiles(readInputs(stack), ["training"]) });
  const outputs = await up(stack);
  if (outputs.run === undefined) throw new Error("the profile training is on and the stack has no run");
  await startAndFollow(await openWorkloads(outputs), outputs.run);
}

/** The settings of a run that another stack had. */
export type MovedRun = Pick<Settings["training"], "run" | "preset" | "model" | "data" | "set" | "commit">;

/** Sets a stack to a run whose checkpoints are there, and follows it. */
export async function goOnWith(stack: string, run: MovedRun): Promise<void> {
  const training = {
    run: run.run,
    preset: run.preset ?? null,
    model: run.model ?? null,
    data: run.data ?? null,
    set: run.set,
    commit: run.commit ?? null,
  };
  makePlan(withTraining(stack, training));
  await setUp(stack);
  await startTraining(stack, training);
}

/** Reads the stack's settings as they would be with this run in them; nothing is written but a token that is given. */
export async function inputsOfRequest(stack: string, request: RunRequest): Promise<() => StackInputs> {
  takeToken(stack);
  const training = trainingSettings(stack, request, await gitCommit());
  return () => withTraining(stack, training);
}

/** Brings the stack up as it is set and gives its outputs. */
export async function up(name: string): Promise<StackOutputs> {
  const stack = await openStack(name);
  await step("pulumi up", async (report) => {
    const mended = await mendStack(stack, readInputs(name), report);
    const { changes } = await bringUp(stack, report);
    return { said: [...mended, changesText(changes)].join("; "), value: undefined };
  });
  const outputs = await readOutputs(stack);
  if (outputs === undefined) throw new Error("the stack is up and has no outputs");
  await settle(outputs);
  return outputs;
}

/** Starts the run's container where it stands still and is not done, and follows it. */
export async function startAndFollow(workloads: Workloads, run: RunOutput): Promise<RunStatus> {
  const { running } = await workloads.state(run.container);
  if (!running && !(await isCompleted(workloads, run))) await workloads.start(run.container);
  const status = await step(`run ${run.name}`, async (report) => {
    const last = await followRun(workloads, run, report);
    return { said: finalText(last), value: last };
  });
  return status;
}

async function isCompleted(workloads: Workloads, run: RunOutput): Promise<boolean> {
  return (await readRunStatus(workloads, run.container, run.name))?.state === "completed";
}

function finalText(status: RunStatus): string {
  const checkpoint = status.last_checkpoint === null ? "" : `, checkpoint at step ${status.last_checkpoint.step}`;
  switch (status.state) {
    case "completed":
      return `done: ${progressLine(status)}`;
    case "stopped":
      return `stopped at step ${status.step}${checkpoint}`;
    default:
      return `${status.state}: ${progressLine(status)}`;
  }
}

function changesText(changes: Readonly<Record<string, number>>): string {
  const changed = Object.entries(changes).filter(([kind, count]) => kind !== "same" && count > 0);
  return changed.length === 0 ? "nothing to change" : changed.map(([kind, count]) => `${count} ${kind}`).join(", ");
}

/** The profiles that are on, and those asked for. */
export function withProfiles({ settings }: StackInputs, wanted: readonly Profile[]): readonly Profile[] {
  return [...new Set([...settings.profiles, ...wanted])];
}

function withTraining(stack: string, training: RawSettings): StackInputs {
  return loadStack({
    projectDir: PROJECT_DIR,
    stack,
    environment: process.env,
    override: { source: "command line", values: { training } },
  });
}

/** What goes into the personal configuration; null takes away what the shared file says of another kind of run. */
function trainingSettings(stack: string, request: RunRequest, commit: string | undefined): RawSettings {
  const asked = {
    preset: request.preset ?? null,
    model: request.model ?? null,
    data: request.data ?? null,
    set: request.set,
  };
  const { training } = readInputs(stack).settings;
  const same =
    asked.preset === (training.preset ?? null) &&
    asked.model === (training.model ?? null) &&
    asked.data === (training.data ?? null) &&
    isDeepStrictEqual(asked.set, stringified(training.set));
  const run = request.name ?? (same ? training.run : defaultName(request, new Date()));
  const keepsCommit = same && run === training.run ? training.commit : commit;
  return { run, ...asked, commit: keepsCommit ?? null };
}

function stringified(values: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, String(value)]));
}

/** `gemma-2b-1123-2215`: preset or model, month, day, hour and minute. */
export function defaultName({ preset, model }: Pick<RunRequest, "preset" | "model">, now: Date): string {
  const part = model?.split("/").findLast((name) => /[a-z0-9]/i.test(name));
  const base = preset ?? part?.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-") ?? "run";
  const two = (value: number) => String(value).padStart(2, "0");
  const stamp = `${two(now.getMonth() + 1)}${two(now.getDate())}-${two(now.getHours())}${two(now.getMinutes())}`;
  return `${base.replaceAll(/^-+|-+$/g, "").slice(0, 42)}-${stamp}`;
}

/** A token from the environment, or from Hugging Face's own file, is kept for the stack's containers. */
function takeToken(stack: string): void {
  const file = join(process.env.HF_HOME ?? join(homedir(), ".cache", "huggingface"), "token");
  const token = process.env.HF_TOKEN ?? (existsSync(file) ? readFileSync(file, "utf8").trim() : undefined);
  if (token === undefined || token === "") return;
  const kept = secretFile(stack, "hf-token");
  if (existsSync(kept) && readFileSync(kept, "utf8").trim() === token) return;
  writeSecret(stack, "hf-token", token);
  console.error(chalk.dim("the Hugging Face token is kept in .tunestack/secrets for the stack's containers"));
}

async function gitCommit(): Promise<string | undefined> {
  const quiet = $({ quiet: true, nothrow: true, cwd: PROJECT_DIR });
  const head = await quiet`git rev-parse HEAD`;
  if (head.exitCode !== 0) return undefined;
  const changed = await quiet`git status --porcelain`;
  return `${head.stdout.trim()}${changed.stdout.trim() === "" ? "" : "-dirty"}`;
}
