import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type EngineEvent,
  LocalWorkspace,
  PulumiCommand,
  Stack,
  StackNotFoundError,
} from "@pulumi/pulumi/automation/index.js";
import { violations } from "../../../policy/index.ts";
import { personalStackFile, stackFile } from "../../../stacks/settings/load.ts";
import { SettingsError } from "../../../stacks/settings/problems.ts";
import { EXIT, UserError, usageError } from "../errors.ts";
import { isInFileBackend } from "../file-backend.ts";
import { PROJECT_DIR, PULUMI_HOME, PULUMI_ROOT, pulumiEnvironment } from "../project.ts";
import { explainPulumi } from "../pulumi-errors.ts";
import { openStack, readInputs } from "../stack.ts";
import { readChanges, readErrors } from "./changes.ts";
import { estimateHere } from "./estimates.ts";
import { forecast, queueOf } from "./forecast.ts";
import { NO_RUN, readLive } from "./live.ts";
import { placeOf } from "./place.ts";
import type { StackPreview } from "./report.ts";

/** Every stack that is shared through git, by name. */
export function sharedStacks(): readonly string[] {
  return readdirSync(PROJECT_DIR)
    .flatMap((file) => /^Pulumi\.(.+)\.yaml$/.exec(file)?.[1] ?? [])
    .sort();
}

/** The stacks that were named, each once, or all; what there is no file of is refused. */
export function stacksToPreview(named: readonly string[]): readonly string[] {
  const unknown = named.filter(
    (stack) => !existsSync(stackFile(PROJECT_DIR, stack)) && !existsSync(personalStackFile(PROJECT_DIR, stack)),
  );
  if (unknown.length > 0) {
    throw usageError({
      path: "npm run preview",
      value: unknown.join(", "),
      reason: `there is no ${unknown.map((stack) => `Pulumi.${stack}.yaml`).join(", ")}`,
      remedy: `name one of ${sharedStacks().join(", ")}, or none for all`,
    });
  }
  return named.length === 0 ? sharedStacks() : [...new Set(named)].sort();
}

/** Previews one stack; what fails is part of the result. Neither the state nor anybody's settings change. */
export async function previewStack(name: string): Promise<StackPreview> {
  const events: EngineEvent[] = [];
  try {
    const inputs = readInputs(name);
    const { stack, isNew, close } = await openForPreview(name);
    try {
      await stack.preview({ onEvent: (event) => events.push(event), suppressProgress: true });
      const resources = readChanges(events);
      const live = isNew ? NO_RUN : await readLive(stack);
      const place = placeOf(inputs.settings);
      const forecaster = { place, estimate: estimateHere, queue: queueOf(inputs) };
      return {
        kind: "finished",
        stack: name,
        isNew,
        resources,
        live,
        violations: violations(resources),
        place,
        forecasts: await forecast(inputs, forecaster),
      };
    } finally {
      close();
    }
  } catch (error) {
    return failedPreview(name, error, events);
  }
}

/** A defect of ours is no result: it is thrown on. */
function failedPreview(stack: string, error: unknown, events: readonly EngineEvent[]): StackPreview {
  const explained = error instanceof UserError || error instanceof SettingsError ? error : explainPulumi(stack, error);
  if (explained === undefined) throw error;
  const exitCode =
    explained instanceof UserError
      ? explained.exitCode
      : explained.subject === "Docker engine"
        ? EXIT.machine
        : EXIT.settings;
  // Pulumi's own words are complete in the events; our explanation stands first.
  const told =
    exitCode === EXIT.stack ? readErrors(events).filter((message) => !explained.message.includes(message)) : [];
  return { kind: "failed", stack, problems: [explained.message, ...told].join("\n\n"), exitCode };
}

interface OpenedStack {
  readonly stack: Stack;
  readonly isNew: boolean;
  readonly close: () => void;
}

async function openForPreview(name: string): Promise<OpenedStack> {
  if (isInFileBackend(name)) return { stack: await openStack(name), isNew: false, close: () => undefined };
  if (process.env.PULUMI_BACKEND_URL !== undefined) {
    const shared = await selectIn(name, {}).catch((error: unknown) => {
      if (error instanceof StackNotFoundError) return undefined;
      throw error;
    });
    if (shared !== undefined) return { stack: shared, isNew: false, close: () => undefined };
  }
  return await openAside(name);
}

async function selectIn(name: string, environment: Readonly<Record<string, string>>): Promise<Stack> {
  return await Stack.select(name, await workspaceWith(environment));
}

/** A stack that is not there yet is made in a backend that is thrown away; Pulumi's notes in the personal file go with it. */
async function openAside(name: string): Promise<OpenedStack> {
  const folder = mkdtempSync(join(tmpdir(), "tunestack-preview-"));
  const personal = personalStackFile(PROJECT_DIR, name);
  const before = existsSync(personal) ? readFileSync(personal) : undefined;
  const close = () => {
    rmSync(folder, { recursive: true, force: true });
    if (before === undefined) rmSync(personal, { force: true });
    else writeFileSync(personal, before);
  };
  try {
    const workspace = await workspaceWith({ PULUMI_BACKEND_URL: `file://${folder}` });
    return { stack: await Stack.create(name, workspace), isNew: true, close };
  } catch (error) {
    close();
    throw error;
  }
}

async function workspaceWith(environment: Readonly<Record<string, string>>): Promise<LocalWorkspace> {
  return await LocalWorkspace.create({
    workDir: PROJECT_DIR,
    pulumiHome: PULUMI_HOME,
    pulumiCommand: await PulumiCommand.get({ root: PULUMI_ROOT }),
    envVars: { ...pulumiEnvironment(process.env), ...environment },
  });
}
