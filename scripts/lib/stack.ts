import { existsSync } from "node:fs";
import { join } from "node:path";
import { type EngineEvent, LocalWorkspace, PulumiCommand, Stack } from "@pulumi/pulumi/automation/index.js";
import type { StackOutputs } from "../../stacks/outputs.ts";
import { makePlan } from "../../stacks/plan/plan.ts";
import { loadStack, type StackInputs } from "../../stacks/settings/load.ts";
import { explainBuild, failedStage } from "./build.ts";
import { EXIT, machineError, UserError } from "./errors.ts";
import { isInFileBackend } from "./file-backend.ts";
import { DEFAULT_STACK, PASSPHRASE_FILE, PROJECT_DIR, PULUMI_HOME, PULUMI_ROOT, pulumiEnvironment } from "./project.ts";
import { explainPulumi } from "./pulumi-errors.ts";
import type { Report } from "./steps.ts";

/** The settings of a stack as the program will see them. */
export function readInputs(stack: string): StackInputs {
  return loadStack({ projectDir: PROJECT_DIR, stack, environment: process.env });
}

/** Whether set-up has been through in this clone. */
export function isSetUp(): boolean {
  return existsSync(join(PULUMI_ROOT, "bin", "pulumi")) && existsSync(PASSPHRASE_FILE);
}

/**
 * Opens a stack of this project, making it where it is new.
 * @throws UserError where set-up has not been through, or the passphrase is wrong.
 */
export async function openStack(name: string): Promise<Stack> {
  if (!isSetUp()) {
    throw machineError({ path: "this clone", reason: "is not set up yet", remedy: "npm start" });
  }
  return await explaining(name, async () => {
    const pulumiCommand = await PulumiCommand.get({ root: PULUMI_ROOT });
    const workspace = await LocalWorkspace.create({
      workDir: PROJECT_DIR,
      pulumiHome: PULUMI_HOME,
      pulumiCommand,
      envVars: pulumiEnvironment(process.env),
    });
    if (!isInFileBackend(name)) return await Stack.createOrSelect(name, workspace);
    // Every command of the Automation API names its stack: selecting it first would only start the CLI once more.
    workspace.selectStack = () => Promise.resolve();
    return await Stack.select(name, workspace);
  });
}

export interface UpSummary {
  /** How many resources each kind of change touched. Example: `{ create: 3, same: 12 }`. */
  readonly changes: Readonly<Record<string, number>>;
}

/** Brings the stack up and tells what Pulumi is doing meanwhile. */
export async function bringUp(stack: Stack, report: Report): Promise<UpSummary> {
  return await explaining(stack.name, async () => {
    const progress = new Progress(report);
    try {
      const result = await stack.up({ onEvent: (event) => progress.take(event), suppressProgress: true });
      return { changes: result.summary.resourceChanges ?? {} };
    } catch (error) {
      const stage = failedStage(String(error));
      if (stage === undefined) throw error;
      report(`looking why the stage ${stage} failed`);
      throw await explainBuild(stack.name, makePlan(readInputs(stack.name)).image, stage);
    }
  });
}

/**
 * Takes the stack down as far as it is still there; volumes stay.
 * @returns how many resources were deleted.
 */
export async function takeDown(stack: Stack, report: Report): Promise<number> {
  return await explaining(stack.name, async () => {
    const progress = new Progress(report);
    const result = await stack.destroy({
      refresh: true,
      onEvent: (event) => progress.take(event),
      suppressProgress: true,
    });
    return result.summary.resourceChanges?.delete ?? 0;
  });
}

/** The outputs of the last `up`; undefined for a stack that was never brought up. */
export async function readOutputs(stack: Stack): Promise<StackOutputs | undefined> {
  const outputs = await explaining(stack.name, () => stack.outputs());
  const value: unknown = outputs.tunestack?.value;
  if (value === undefined) return undefined;
  if (isOutputs(value)) return value;
  throw new UserError(
    [
      {
        path: `stack ${stack.name}`,
        reason: "was brought up by another version of tunestack",
        remedy: "npx pulumi up, then the same command again",
      },
    ],
    EXIT.stack,
    "stack",
  );
}

/** The outputs, where a command cannot do without. */
export async function requireOutputs(name: string): Promise<StackOutputs> {
  const outputs = await readOutputs(await openStack(name));
  if (outputs !== undefined) return outputs;
  throw new UserError(
    [
      {
        path: `stack ${name}`,
        reason: "is not up",
        remedy: name === DEFAULT_STACK ? "npm start, or npm run train-dev" : `npm run train-monitor -- --stack ${name}`,
      },
    ],
    EXIT.stack,
    "stack",
  );
}

function isOutputs(value: unknown): value is StackOutputs {
  return typeof value === "object" && value !== null && "version" in value && value.version === 1;
}

/** Asks something of the Pulumi CLI: what it says on failure is turned into what is wrong and what to do. */
export async function explaining<T>(stack: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    throw explainPulumi(stack, error) ?? error;
  }
}

/** Tells which resources are being worked on, the one that has taken longest first. */
class Progress {
  readonly #report: Report;
  readonly #working = new Map<string, string>();

  constructor(report: Report) {
    this.#report = report;
  }

  take(event: EngineEvent): void {
    const started = event.resourcePreEvent?.metadata;
    if (started !== undefined && isCustom(started.type) && started.op !== "same") {
      this.#working.set(started.urn, `${started.op} ${shortName(started.urn)}`);
    }
    const ended = event.resOutputsEvent?.metadata ?? event.resOpFailedEvent?.metadata;
    if (ended !== undefined) this.#working.delete(ended.urn);
    this.#report([...this.#working.values()].slice(0, 3).join(", "));
  }
}

/** Components and the stack itself are only a frame around what is worked on. */
function isCustom(type: string): boolean {
  return !type.startsWith("tunestack:") && type !== "pulumi:pulumi:Stack";
}

function shortName(urn: string): string {
  return (
    urn
      .split("::")
      .at(-1)
      ?.replace(/^tunestack-/, "") ?? urn
  );
}
