import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { chalk } from "zx";
import { formatBytes } from "../../stacks/settings/units.ts";
import { unpackInto } from "./archive.ts";
import { EXIT, type ExitCode, UserError } from "./errors.ts";
import { verifyManifests } from "./snapshot-files.ts";
import { formatTable } from "./table.ts";
import type { Archive, Ended } from "./workloads.ts";

const driftSchema = z.object({ kl: z.number(), top1: z.number() });

/** What `tunestack-train export --json` answers. */
const exportedSchema = z.object({
  run: z.string(),
  checkpoint: z.string(),
  chosen_as: z.string(),
  folder: z.string(),
  fresh: z.boolean(),
  files: z.record(z.string(), z.number()),
  stages: z.array(
    z.object({
      stage: z.string(),
      label: z.string(),
      file: z.string().nullable(),
      from_before: driftSchema,
      from_adapter: driftSchema,
      from_trained: driftSchema,
    }),
  ),
});
export type ExportedModel = z.output<typeof exportedSchema>;

const failedSchema = z.object({ error: z.object({ message: z.string(), remedy: z.string(), exit_code: z.number() }) });

/**
 * What the export answered; pure.
 * @throws UserError with what it says is wrong and what to do.
 */
export function readExported(run: string, { exitCode, stdout, stderr }: Ended): ExportedModel {
  const answer = lastObject(stdout);
  const failed = failedSchema.safeParse(answer);
  if (failed.success) {
    const { message, remedy, exit_code } = failed.data.error;
    throw new UserError([{ path: `export ${run}`, reason: message, remedy }], exitCodeOf(exit_code), "export");
  }
  const parsed = exportedSchema.safeParse(answer);
  if (exitCode === 0 && parsed.success) return parsed.data;
  const killed = exitCode === 137;
  const said = stderr.trim().split("\n").slice(-4).join("\n    ");
  throw new UserError(
    [
      {
        path: `export ${run}`,
        reason: killed
          ? "was killed: it outgrew the memory it may have"
          : `ended with exit code ${exitCode}:\n    ${said}`,
        remedy: killed
          ? "free memory, or raise training.memory; what was exported before is untouched"
          : "type the same again: what was exported before is untouched",
      },
    ],
    killed ? EXIT.machine : EXIT.run,
    "export",
  );
}

function lastObject(text: string): unknown {
  try {
    return JSON.parse(text.trim().split("\n").at(-1) ?? "");
  } catch {
    return undefined;
  }
}

/** The program's exit codes as those of our commands. */
function exitCodeOf(code: number): ExitCode {
  switch (code) {
    case 2:
      return EXIT.settings;
    case 4:
    case 6:
      return EXIT.machine;
    default:
      return EXIT.run;
  }
}

/** Files with their sizes and drift, and what to type next. */
export function formatExported(exported: ExportedModel, folder: string | undefined): string {
  const rows = exported.stages.map(({ stage, label, file, from_before, from_adapter, from_trained }) => {
    const drift = stage === "base" ? from_trained : from_adapter;
    const size = file === null ? "" : formatBytes(exported.files[file] ?? 0);
    return [
      label,
      size,
      from_before.kl.toExponential(1),
      drift.kl.toExponential(1),
      `${(drift.top1 * 100).toFixed(1)} %`,
    ];
  });
  const hasGguf = exported.stages.some(({ file }) => file?.endsWith(".gguf") === true);
  return [
    formatTable(["stage", "size", "KL added", "KL to adapter", "top-1"], rows),
    "",
    chalk.dim("KL in nats; the adapter on bf16 is compared with the adapter as it was trained, the files with it"),
    `in          ${folder ?? `the volume, ${exported.folder}`}`,
    ...nextLines(exported, folder, hasGguf),
  ].join("\n");
}

function nextLines({ run }: ExportedModel, folder: string | undefined, hasGguf: boolean): readonly string[] {
  if (folder === undefined) return [`next        npm run export -- --run ${run} --to ./${run}   brings the files out`];
  return hasGguf ? [`next        ollama create ${run} -f ${join(folder, "Modelfile")}`] : [];
}

/**
 * Brings the exported folder out of the container into a new folder of this machine: aside, verified, renamed.
 * @throws UserError where something is there already, or a file is not as the export wrote it.
 */
export async function bringOut(archive: Archive, from: string, to: string): Promise<void> {
  refuseExisting(to);
  await mkdir(dirname(to), { recursive: true });
  const aside = join(dirname(to), `.${basename(to)}.${randomBytes(4).toString("hex")}`);
  try {
    await pipeline(await archive(from), unpackInto(aside));
    const { problems } = await verifyManifests(aside);
    if (problems.length > 0) {
      throw new UserError(
        problems.slice(0, 5).map((reason) => ({ path: to, reason, remedy: "type the same again" })),
        EXIT.machine,
        "export",
      );
    }
    await rename(aside, to);
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
}

/** @throws UserError where a folder to be made is there already. */
export function refuseExisting(folder: string): void {
  if (!existsSync(folder)) return;
  throw new UserError(
    [{ path: "--to", value: folder, reason: "is there already", remedy: "name a new folder" }],
    EXIT.refused,
    "command line",
  );
}
