import { z } from "zod";
import { chalk } from "zx";
import { formatBytes, formatDuration } from "../../stacks/settings/units.ts";
import type { Workloads } from "./workloads.ts";

const number = z.number().nullable();

/** `status.json` of a run, as `tunestack_train` writes it. */
const runStatusSchema = z.object({
  schema: z.literal(1),
  run: z.string(),
  state: z.enum(["preparing", "training", "saving", "completed", "stopped", "failed"]),
  step: z.number(),
  max_steps: number,
  loss: number,
  first_loss: number,
  /** Of the newest evaluation; a run that an earlier version trained has none. */
  eval_loss: number.optional(),
  tokens_per_second: number,
  eta_seconds: number,
  gpu_memory_bytes: number,
  device: z.string().nullable(),
  preset: z.string().nullable(),
  model: z.string().nullable(),
  started_at: z.string().nullable(),
  updated_at: z.string(),
  last_checkpoint: z.object({ path: z.string(), step: z.number(), saved_at: z.string() }).nullable(),
  adapter: z.string().nullable(),
  error: z.object({ message: z.string(), remedy: z.string().nullable() }).nullable(),
  exit_code: number,
});

export type RunStatus = z.output<typeof runStatusSchema>;

/** The status of a run; undefined before it has written one. */
export async function readRunStatus(
  workloads: Workloads,
  container: string,
  run: string,
): Promise<RunStatus | undefined> {
  const text = await workloads.readFile(container, `/logs/${run}/status.json`);
  if (text === undefined || text === "") return undefined;
  const parsed = runStatusSchema.safeParse(JSON.parse(text));
  return parsed.success ? parsed.data : undefined;
}

/** Step, loss, speed, time left and GPU memory in one line, and the machine where there are several. */
export function progressLine(status: RunStatus, machine?: string): string {
  const { step, max_steps, loss, eval_loss, tokens_per_second, eta_seconds, gpu_memory_bytes } = status;
  const parts = [
    max_steps === null ? status.state : `${bar(step / max_steps)} ${step}/${max_steps}`,
    loss === null ? undefined : `loss ${loss.toFixed(3)}`,
    typeof eval_loss === "number" ? `eval ${eval_loss.toFixed(3)}` : undefined,
    tokens_per_second === null ? undefined : `${Math.round(tokens_per_second)} tokens/s`,
    status.state !== "training" || eta_seconds === null ? undefined : `${formatDuration(eta_seconds)} left`,
    gpu_memory_bytes === null ? undefined : `GPU ${formatBytes(gpu_memory_bytes)}`,
    machine === undefined ? undefined : `on ${machine}`,
  ];
  return parts.filter((part) => part !== undefined).join("  ");
}

function bar(share: number): string {
  const width = 20;
  const full = Math.round(Math.min(1, Math.max(0, share)) * width);
  return chalk.cyan("█".repeat(full)) + chalk.dim("░".repeat(width - full));
}
