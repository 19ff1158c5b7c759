import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import type { GcpVmOutputs } from "../../../stacks/outputs.ts";
import { formatDuration } from "../../../stacks/settings/units.ts";
import { PLAN_OBJECT } from "../../../stacks/targets/gcp-vm/paths.ts";
import { EXIT, UserError } from "../errors.ts";
import type { Report } from "../steps.ts";
import { explainKnownGcloud } from "./errors.ts";
import { type CloudProject, gcloud, gcloudJson } from "./gcloud.ts";

/** The VM of a stack, and what the cloud does with it. */
export interface Vm {
  readonly name: string;
  readonly zone: string;
  /** In Google's words: `PROVISIONING`, `RUNNING`, `STOPPING`, …; undefined where there is no machine yet. */
  readonly status: string | undefined;
  /** Why the last try to make it failed. */
  readonly error: string | undefined;
}

/** What the VM tells of itself in the bucket. */
const vmStatusSchema = z.object({
  schema: z.literal(1),
  stage: z.string(),
  message: z.string(),
  time: z.string(),
  instance: z.string(),
  zone: z.string(),
  machineType: z.string(),
  /** Generation of the plan that it has applied last. */
  plan: z.string().optional(),
});
export type VmStatus = z.output<typeof vmStatusSchema>;

const instancesSchema = z.array(
  z.object({
    instance: z.string(),
    instanceStatus: z.string().optional(),
    lastAttempt: z
      .object({ errors: z.object({ errors: z.array(z.object({ code: z.string(), message: z.string() })) }).optional() })
      .optional(),
  }),
);

export type CloudStack = Pick<GcpVmOutputs, "stack" | "cloud">;

export function projectOf({ stack, cloud }: CloudStack): CloudProject {
  return { project: cloud.project, stack };
}

/** The one VM of the stack's group; undefined where the group is down to none. */
export async function findVm(outputs: CloudStack): Promise<Vm | undefined> {
  const { group, region } = outputs.cloud;
  const [found] = await gcloudJson(
    projectOf(outputs),
    ["compute", "instance-groups", "managed", "list-instances", group, "--region", region],
    instancesSchema,
  );
  if (found === undefined) return undefined;
  const [, zone, name] = /zones\/([^/]+)\/instances\/([^/]+)$/.exec(found.instance) ?? [];
  if (zone === undefined || name === undefined) throw new Error(`no instance: ${found.instance}`);
  const error = found.lastAttempt?.errors?.errors.map(({ code, message }) => `${code}: ${message}`).join("\n");
  return { name, zone, status: found.instanceStatus, error };
}

/** What the VM says of itself; undefined before the first one has said anything. */
export async function readVmStatus(outputs: CloudStack): Promise<VmStatus | undefined> {
  const text = await gcloud(projectOf(outputs), [
    "storage",
    "cat",
    `gs://${outputs.cloud.bucket}/status/vm.json`,
  ]).catch((error: unknown) => {
    if (error instanceof UserError && /matched no objects|not found: 404/i.test(error.message)) return undefined;
    throw error;
  });
  return text === undefined ? undefined : vmStatusSchema.parse(JSON.parse(text));
}

/** Brings the group from none to its one VM, as a train command does after the VM went home. */
export async function wakeVm(outputs: CloudStack): Promise<void> {
  const { group, region } = outputs.cloud;
  await gcloud(projectOf(outputs), [
    ...["compute", "instance-groups", "managed", "resize", group, "--size", "1", "--region", region],
  ]);
}

const POLL_MS = 10_000;
/** A first boot installs driver and engine and pulls the image: 10 to 15 minutes are usual. */
const PATIENCE_MS = 45 * 60_000;

/** The agent's word that another run is in progress. */
const NOT_REPLACED = /was not replaced/;

const generationSchema = z.object({ generation: z.coerce.string() });

/**
 * Waits until the VM runs the plan that stands in the bucket, and wakes it where it went home.
 * @param wait in milliseconds between two looks; a test does not wait as long.
 * @returns what the VM says.
 * @throws UserError where it cannot be had, fails, or takes too long.
 */
export async function awaitPlan(outputs: CloudStack, report: Report, wait = POLL_MS): Promise<string> {
  const { generation } = await gcloudJson(
    projectOf(outputs),
    ["storage", "objects", "describe", `gs://${outputs.cloud.bucket}/${PLAN_OBJECT}`],
    generationSchema,
  );
  if ((await findVm(outputs)) === undefined) {
    report("waking the VM");
    await wakeVm(outputs);
  }
  const started = Date.now();
  for (;;) {
    const vm = await findVm(outputs);
    const status = await readVmStatus(outputs);
    const ours = status !== undefined && vm?.name === status.instance && vm.status === "RUNNING";
    if (ours && status.plan === generation && status.stage === "up") {
      if (NOT_REPLACED.test(status.message)) throw notReplaced(outputs, status);
      return `${status.instance}: ${status.message}`;
    }
    if (ours && status.stage === "failed" && Date.parse(status.time) > started) throw failedVm(outputs, status);
    if (Date.now() - started > PATIENCE_MS) throw tooLong(outputs, vm, status);
    report(progressOf(outputs, vm, ours ? status : undefined));
    await sleep(wait);
  }
}

function progressOf(outputs: CloudStack, vm: Vm | undefined, status: VmStatus | undefined): string {
  if (vm?.error !== undefined) {
    const known = explainKnownGcloud(projectOf(outputs), vm.error)?.problems[0];
    return known === undefined ? vm.error : `${known.path} ${known.value ?? ""} ${known.reason} → ${known.remedy}`;
  }
  if (status !== undefined) return `${status.instance}: ${status.message}`;
  return vm === undefined
    ? "waiting for a VM"
    : `${vm.name} in ${vm.zone}: ${vm.status?.toLowerCase() ?? "being made"}`;
}

function notReplaced({ stack }: CloudStack, { message }: VmStatus): UserError {
  return new UserError(
    [
      {
        path: `stack ${stack}`,
        reason: message.replace(/: npm run .*/, ""),
        remedy: `npm run train-stop -- --stack ${stack}, then the same command again; or set training.replaceRunning`,
      },
    ],
    EXIT.refused,
    "run",
  );
}

function failedVm({ stack, cloud }: CloudStack, status: VmStatus): UserError {
  return new UserError(
    [
      {
        path: `VM ${status.instance}`,
        reason: status.message,
        remedy: `mend what it says, then the same command again; all it printed: gcloud compute instances get-serial-port-output ${status.instance} --zone ${status.zone} --project ${cloud.project}`,
      },
    ],
    EXIT.stack,
    `stack ${stack}`,
  );
}

function tooLong(outputs: CloudStack, vm: Vm | undefined, status: VmStatus | undefined): UserError {
  const known = vm?.error === undefined ? undefined : explainKnownGcloud(projectOf(outputs), vm.error);
  if (known !== undefined) return known;
  return new UserError(
    [
      {
        path: `stack ${outputs.stack}`,
        value: vm === undefined ? "no VM" : progressOf(outputs, vm, status),
        reason: `did not come up within ${formatDuration(PATIENCE_MS / 1000)}`,
        remedy: `npm run doctor -- --stack ${outputs.stack} looks at quota and zones; the group goes on trying`,
      },
    ],
    EXIT.stack,
    "stack",
  );
}

/**
 * The VM, where a command needs it running.
 * @throws UserError where there is none, or it is not up yet.
 */
export async function requireVm(outputs: CloudStack): Promise<Vm> {
  const vm = await findVm(outputs);
  if (vm?.status === "RUNNING") return vm;
  const status = vm === undefined ? await readVmStatus(outputs) : undefined;
  const went = status?.stage === "going" ? ` (${status.time}: ${status.message})` : "";
  throw new UserError(
    [
      {
        path: `stack ${outputs.stack}`,
        value: vm?.name,
        reason: vm === undefined ? `has no VM at the moment${went}` : progressOf(outputs, vm, undefined),
        remedy:
          vm === undefined
            ? `npm run train-custom, train-gemma-2b or train-monitor -- --stack ${outputs.stack} brings it back`
            : "wait until it runs: a group goes on trying by itself",
      },
    ],
    EXIT.machine,
    "stack",
  );
}
