import { z } from "zod";
import { chalk } from "zx";
import type { GcpVmOutputs, ServiceOutput, StackOutputs } from "../../stacks/outputs.ts";
import { formatBytes, formatDuration } from "../../stacks/settings/units.ts";
import { UserError } from "./errors.ts";
import { costText, type RunCost, runCost } from "./gcloud/run-cost.ts";
import { readVmStatus } from "./gcloud/vm.ts";
import { progressLine, type RunStatus, readRunStatus } from "./run-status.ts";
import { formatTable } from "./table.ts";
import type { ContainerState, Workloads } from "./workloads.ts";

/** All that one screen tells of a stack. */
export interface Overview {
  readonly stack: string;
  readonly services: readonly (ServiceOutput & { readonly state: ContainerState })[];
  readonly leftOut: StackOutputs["leftOut"];
  readonly run:
    | { readonly name: string; readonly container: ContainerState; readonly status: RunStatus | undefined }
    | undefined;
  readonly device: DeviceSample | undefined;
  readonly backup: BackupStatus | undefined;
  readonly disk: { readonly freeBytes: number } | undefined;
  /** What is rented for it; undefined on machines of one's own. */
  readonly cost: RunCost | undefined;
  /** Why the volumes could not be looked into; the rest is told without. */
  readonly unread: string | undefined;
}

const deviceSampleSchema = z.object({
  timestamp: z.string(),
  kind: z.string().optional(),
  name: z.string().nullish(),
  utilisation: z.number().nullish(),
  cpu_percent: z.number().nullish(),
  memory_used_bytes: z.number().nullish(),
  memory_total_bytes: z.number().nullish(),
  temperature_celsius: z.number().nullish(),
});
export type DeviceSample = z.output<typeof deviceSampleSchema>;

const backupStatusSchema = z.object({
  last_success: z.string().nullish(),
  last_snapshot_id: z.string().nullish(),
  last_drill: z.object({ at: z.string(), ok: z.boolean() }).nullish(),
  error: z.unknown(),
});
export type BackupStatus = z.output<typeof backupStatusSchema>;

export async function readOverview(workloads: Workloads, outputs: StackOutputs): Promise<Overview> {
  const services = await Promise.all(
    outputs.services.map(async (service) => ({ ...service, state: await workloads.state(service.container) })),
  );
  const { run } = outputs;
  const there = services.filter(({ state }) => state.exists);
  // Each of them sees the logs; on a cluster gpu-monitor sees those of its own node alone.
  const reader =
    there.find(({ name }) => name === "training-backup")?.container ??
    run?.container ??
    there.find(({ name }) => name === "gpu-monitor")?.container;
  const files = await readFiles(workloads, run, reader);
  return {
    stack: outputs.stack,
    services,
    leftOut: outputs.leftOut,
    run:
      run === undefined
        ? undefined
        : {
            name: run.name,
            container: await workloads.state(run.container),
            status: files.status,
          },
    device: await readDevice(workloads, services),
    backup: files.backup,
    disk: files.unread === undefined ? await readDisk(workloads, services) : undefined,
    cost: outputs.target === "gcp-vm" ? await readCost(outputs, files.status) : undefined,
    unread: files.unread,
  };
}

interface Files {
  readonly status: RunStatus | undefined;
  readonly backup: BackupStatus | undefined;
  readonly unread: string | undefined;
}

/** What run and backups write down. Where no pod can be had to read it, what the cluster says is worth a screen, too. */
async function readFiles(workloads: Workloads, run: StackOutputs["run"], reader: string | undefined): Promise<Files> {
  try {
    const status = run === undefined ? undefined : await readRunStatus(workloads, run.container, run.name);
    return {
      status,
      backup: reader === undefined ? undefined : await readBackup(workloads, reader),
      unread: undefined,
    };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { status: undefined, backup: undefined, unread: error.problems.map(({ reason }) => reason).join("; ") };
  }
}

/** The newest line of the monitor's file. */
async function readDevice(workloads: Workloads, services: Overview["services"]): Promise<DeviceSample | undefined> {
  const monitor = services.find(({ name, state }) => name === "gpu-monitor" && state.reachable);
  if (monitor === undefined) return undefined;
  const { stdout } = await workloads.run(monitor.container, ["tail", "-n", "1", "/logs/gpu_metrics.jsonl"]);
  return stdout.trim() === "" ? undefined : parsed(deviceSampleSchema, stdout);
}

async function readBackup(workloads: Workloads, container: string): Promise<BackupStatus | undefined> {
  const text = await workloads.readFile(container, "/logs/backup_status.json");
  return text === undefined ? undefined : parsed(backupStatusSchema, text);
}

async function readCost(outputs: GcpVmOutputs, status: RunStatus | undefined): Promise<RunCost | undefined> {
  const vm = await readVmStatus(outputs);
  return vm === undefined ? undefined : runCost(outputs, vm, status);
}

/** Room on the disk that holds the volumes. */
async function readDisk(
  workloads: Workloads,
  services: Overview["services"],
): Promise<{ freeBytes: number } | undefined> {
  const any = services.find(
    ({ name, state }) => (name === "gpu-monitor" || name === "training-backup") && state.reachable,
  );
  if (any === undefined) return undefined;
  const { stdout, exitCode } = await workloads.run(any.container, ["df", "--output=avail", "-B1", "/logs"]);
  const freeBytes = Number(stdout.trim().split("\n").at(-1));
  return exitCode === 0 && Number.isFinite(freeBytes) ? { freeBytes } : undefined;
}

function parsed<T>(schema: z.ZodType<T>, text: string): T | undefined {
  try {
    const result = schema.safeParse(JSON.parse(text));
    return result.success ? result.data : undefined;
  } catch {
    return undefined;
  }
}

/** The screen as text. `followHint` adds how each service is followed. */
export function formatOverview(overview: Overview): string {
  const rows = [
    ...overview.services.map(({ name, url, state }) => [
      name,
      url ?? "–",
      colouredHealth(state.health),
      `npm run train-logs -- ${name}`,
    ]),
    ...overview.leftOut.map(({ service, reason }) => [service, "–", chalk.yellow("left out"), reason]),
  ];
  return [
    formatTable(["SERVICE", "URL", "HEALTH", "FOLLOW"], rows),
    "",
    ...runLines(overview),
    ...factLines(overview),
  ].join("\n");
}

function colouredHealth(health: string): string {
  if (health === "healthy") return chalk.green(health);
  return health === "starting" || health === "running" ? chalk.yellow(health) : chalk.red(health);
}

function runLines({ run }: Overview): readonly string[] {
  if (run === undefined) return ["run         none: the profile training is off"];
  const { status } = run;
  const { waitsFor, machine } = run.container;
  const place = [
    ...(waitsFor === undefined ? [] : [`            ${waitsFor}`]),
    ...(machine === undefined ? [] : [`node        ${machine}`]),
  ];
  if (status === undefined) return [`run         ${run.name}: ${run.container.health}`, ...place];
  const fell = status.first_loss === null || status.loss === null ? "" : ` (first ${status.first_loss.toFixed(3)})`;
  const checkpoint = status.last_checkpoint;
  return [
    `run         ${run.name}: ${stateText(run.container, status)}`,
    `            ${progressLine(status)}${fell}`,
    ...place,
    ...(checkpoint === null ? [] : [`checkpoint  ${checkpoint.path}, ${ago(checkpoint.saved_at)}`]),
    ...(status.adapter === null ? [] : [`adapter     ${status.adapter} (volume training_checkpoints)`]),
    ...(status.error === null ? [] : [chalk.red(`error       ${status.error.message}`)]),
  ];
}

/** What a run wrote last holds while it works, and once it has ended; what waits anew has written it before. */
function stateText(container: ContainerState, { state }: RunStatus): string {
  if (container.waitsFor !== undefined) return container.health;
  return container.running || state !== "training" ? state : container.health;
}

function factLines({ device, backup, disk, cost, unread }: Overview): readonly string[] {
  return [
    ...(device === undefined ? [] : [`device      ${deviceText(device)}`]),
    ...(backup === undefined ? [] : [`backup      ${backupText(backup)}`]),
    ...(disk === undefined ? [] : [`disk        ${formatBytes(disk.freeBytes)} free`]),
    ...(cost === undefined ? [] : [`cost        ${costText(cost)}`]),
    ...(unread === undefined ? [] : [chalk.yellow(`volumes     not looked into: ${unread}`)]),
  ];
}

function deviceText(sample: DeviceSample): string {
  const memory =
    sample.memory_used_bytes == null || sample.memory_total_bytes == null
      ? undefined
      : `${formatBytes(sample.memory_used_bytes)} of ${formatBytes(sample.memory_total_bytes)}`;
  const busy = sample.utilisation ?? sample.cpu_percent;
  const parts = [
    sample.kind === "cpu" ? `no GPU; CPU ${sample.name ?? ""}`.trim() : (sample.name ?? "GPU"),
    busy == null ? undefined : `${Math.round(busy)} % busy`,
    memory,
    sample.temperature_celsius == null ? undefined : `${sample.temperature_celsius} °C`,
  ];
  return parts.filter((part) => part !== undefined).join(", ");
}

function backupText({ last_success, last_snapshot_id, last_drill }: BackupStatus): string {
  if (last_success == null) return "none yet";
  const drill =
    last_drill == null
      ? "not drilled yet"
      : last_drill.ok
        ? `restore drilled ${ago(last_drill.at)}`
        : chalk.red("the last restore drill failed");
  return `snapshot ${last_snapshot_id?.slice(0, 8) ?? ""} ${ago(last_success)}, ${drill}`;
}

/** How long ago a moment was. */
export function ago(moment: string): string {
  return `${formatDuration((Date.now() - Date.parse(moment)) / 1000)} ago`;
}
