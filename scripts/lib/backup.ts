import { z } from "zod";
import type { StackOutputs } from "../../stacks/outputs.ts";
import type { Problem } from "../../stacks/settings/problems.ts";
import { EXIT, type ExitCode, machineError, UserError } from "./errors.ts";
import { command } from "./project.ts";
import type { Ended, Workloads } from "./workloads.ts";

const PROGRAM = ["python", "-m", "tunestack_train.backup"] as const;

export const takenSchema = z.object({
  snapshot_id: z.string(),
  bytes: z.number(),
  added_bytes: z.number(),
  checkpoints: z.number(),
  excluded: z.array(z.object({ path: z.string(), reason: z.string() })),
  warnings: z.array(z.string()),
});

export const listSchema = z.object({
  snapshots: z.array(
    z.object({
      id: z.string(),
      time: z.string(),
      runs: z.array(z.string()),
      parts: z.record(z.string(), z.string()),
    }),
  ),
});
export type Snapshot = z.output<typeof listSchema>["snapshots"][number];

export const verifiedSchema = z.object({ ok: z.boolean(), read_data: z.boolean() });

export const drilledSchema = z.object({
  at: z.string(),
  ok: z.boolean(),
  snapshot_id: z.string(),
  verified_manifests: z.number(),
});

export const restoredSchema = z.object({
  snapshot_id: z.string(),
  restored: z.array(z.string()),
  kept: z.array(z.string()),
  verified_manifests: z.number(),
  bytes: z.number(),
});
export type Restored = z.output<typeof restoredSchema>;

const errorSchema = z.object({ error: z.object({ message: z.string(), remedy: z.string(), exit_code: z.number() }) });

/**
 * The container of the stack's backup service.
 * @throws UserError where the service is off or does not run, with what brings it up.
 */
export async function requireBackup(
  workloads: Pick<Workloads, "state">,
  outputs: Pick<StackOutputs, "stack" | "services" | "leftOut">,
): Promise<string> {
  const service = outputs.services.find(({ name }) => name === "training-backup");
  if (service === undefined) throw machineError(offProblem(outputs));
  const { reachable, health } = await workloads.state(service.container);
  if (reachable) return service.container;
  throw machineError({
    path: `container ${service.container}`,
    value: health,
    reason: "the backup service does not run",
    remedy: "npm run doctor -- --fix starts it again; npm run train-logs -- training-backup shows why it ended",
  });
}

/**
 * A run's folder is not replaced while it is written to.
 * @param wanted name of the run that is meant; undefined means all.
 * @throws UserError where it is in progress.
 */
export async function refuseRunInProgress(
  workloads: Pick<Workloads, "state">,
  { run }: Pick<StackOutputs, "run">,
  wanted: string | undefined,
  remedy: string,
): Promise<void> {
  if (run === undefined || (wanted !== undefined && wanted !== run.name)) return;
  if (!(await workloads.state(run.container)).running) return;
  throw new UserError(
    [{ path: `run ${run.name}`, reason: "is in progress; its folder cannot be replaced under it", remedy }],
    EXIT.refused,
    "run",
  );
}

function offProblem({ stack, leftOut }: Pick<StackOutputs, "stack" | "leftOut">): Problem {
  const reason = leftOut.find(({ service }) => service === "training-backup")?.reason;
  return {
    path: "service training-backup",
    reason: reason === undefined ? "is off: the profile monitor is not up" : `is off: ${reason}`,
    remedy:
      reason === undefined
        ? command("train-monitor", stack)
        : "npx pulumi config set --path tunestack:services.training-backup.enabled true, then npx pulumi up",
  };
}

/**
 * Runs the backup program in its container.
 * @returns its answer.
 * @throws UserError with what it says is wrong and what to do.
 */
export async function askBackup<T>(
  workloads: Pick<Workloads, "run">,
  container: string,
  args: readonly string[],
  schema: z.ZodType<T>,
): Promise<T> {
  const result = await workloads.run(container, [...PROGRAM, ...args, "--json"]);
  return readAnswer(args[0] ?? "", result, schema);
}

/** What the backup program answered; pure. */
export function readAnswer<T>(command: string, { exitCode, stdout, stderr }: Ended, schema: z.ZodType<T>): T {
  const answer = lastObject(stdout);
  const failure = errorSchema.safeParse(answer);
  if (failure.success) throw explained(command, failure.data.error);
  const parsed = schema.safeParse(answer);
  if (exitCode === 0 && parsed.success) return parsed.data;
  const said = stderr.trim().split("\n").slice(-4).join("\n    ");
  throw new UserError(
    [
      {
        path: `backup ${command}`,
        reason: `ended with exit code ${exitCode}${said === "" ? "" : `:\n    ${said}`}`,
        remedy: "npm run train-logs -- training-backup shows what the service says",
      },
    ],
    EXIT.machine,
    "backup",
  );
}

function lastObject(text: string): unknown {
  const line = text.trim().split("\n").at(-1) ?? "";
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function explained(command: string, error: z.output<typeof errorSchema>["error"]): UserError {
  const { message, remedy, exit_code } = error;
  const problem = { path: `backup ${command}`, reason: asWeType(message), remedy: asWeType(remedy) };
  return new UserError([problem], exitCodeOf(exit_code, message), "backup");
}

/** The program's exit codes as those of our commands. */
function exitCodeOf(code: number, message: string): ExitCode {
  if (/exists? already$/.test(message)) return EXIT.refused;
  switch (code) {
    case 2:
    case 4:
      return EXIT.settings;
    case 7:
      return EXIT.network;
    default:
      return EXIT.machine;
  }
}

/** The program names its own commands; people type ours. */
export function asWeType(text: string): string {
  return text
    .replaceAll("`now`", "npm run backup")
    .replaceAll("`list`", "npm run restore -- list")
    .replaceAll("`verify`", "npm run restore -- verify");
}
