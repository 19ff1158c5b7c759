import { execFile } from "node:child_process";
import type { z } from "zod";
import { explainGcloud } from "./errors.ts";

/** How much a listing may print. */
const OUTPUT_BYTES = 16 * 2 ** 20;

/** A project of Google Cloud, and the stack whose commands a remedy names. */
export interface CloudProject {
  readonly project: string;
  readonly stack: string;
}

/**
 * Runs Google's own command line, as the person who is logged in there, and never asks anything.
 * @param args without `--project` and `--quiet`, which are added.
 * @returns what it printed.
 * @throws UserError with the command that mends what is wrong.
 */
export async function gcloud(cloud: CloudProject, args: readonly string[]): Promise<string> {
  const result = await runGcloud([...args, "--project", cloud.project, "--quiet"]);
  if (result.exitCode === 0) return result.stdout;
  throw explainGcloud(cloud, args, result);
}

/** The same for what prints JSON. */
export async function gcloudJson<T>(cloud: CloudProject, args: readonly string[], schema: z.ZodType<T>): Promise<T> {
  const text = await gcloud(cloud, [...args, "--format", "json"]);
  return schema.parse(JSON.parse(text));
}

export interface GcloudResult {
  /** 127 where there is no gcloud. */
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs gcloud with just these arguments; what comes of it is the caller's to judge. */
export async function runGcloud(args: readonly string[]): Promise<GcloudResult> {
  return await new Promise((resolve) => {
    const child = execFile("gcloud", args, { maxBuffer: OUTPUT_BYTES }, (error, stdout, stderr) => {
      const missing = error !== null && error.code === "ENOENT";
      const code = error === null ? 0 : typeof error.code === "number" ? error.code : 1;
      resolve({ exitCode: missing ? MISSING : code, stdout, stderr });
    });
    // It would wait for an answer that nobody is asked for.
    child.stdin?.end();
  });
}

/** Exit code that a shell gives for a program that is not there. */
export const MISSING = 127;
