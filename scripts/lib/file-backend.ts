import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Deployment } from "@pulumi/pulumi/automation/index.js";
import { z } from "zod";
import { PERSONAL_DIR } from "./project.ts";

const PROJECT = "tunestack";

const checkpointSchema = z.object({
  version: z.number(),
  checkpoint: z.object({ latest: z.record(z.string(), z.unknown()).nullish() }),
});

/**
 * A folder of Pulumi's file backend; undefined where the state is kept elsewhere (PULUMI_BACKEND_URL). What is read here
 * takes milliseconds, where a start of the CLI that tells the same takes a third of a second.
 */
function backendFolder(...parts: readonly string[]): string | undefined {
  if (process.env.PULUMI_BACKEND_URL !== undefined) return undefined;
  return join(PERSONAL_DIR, "state", ".pulumi", ...parts);
}

/** The folder of a stack's locks. */
export function lockFolder(stack: string): string | undefined {
  return backendFolder("locks", "organization", PROJECT, stack);
}

function stackFile(stack: string): string | undefined {
  return backendFolder("stacks", PROJECT, `${stack}.json`);
}

/** Whether the stack is known to be there; false says nothing where the state is kept elsewhere. */
export function isInFileBackend(stack: string): boolean {
  const file = stackFile(stack);
  return file !== undefined && existsSync(file);
}

/** The state of a stack as `pulumi stack export` gives it; undefined where it cannot be read from here. */
export function readDeployment(stack: string, file: string | undefined = stackFile(stack)): Deployment | undefined {
  if (file === undefined || !existsSync(file)) return undefined;
  const parsed = checkpointSchema.safeParse(parseJson(readFileSync(file, "utf8")));
  if (!parsed.success) return undefined;
  return { version: parsed.data.version, deployment: parsed.data.checkpoint.latest ?? {} };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The CLI says best what is wrong with a damaged state.
    return undefined;
  }
}
