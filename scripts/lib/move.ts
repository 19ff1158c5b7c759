import { randomBytes } from "node:crypto";
import { z } from "zod";
import { askBackup, restoredSchema, takenSchema } from "./backup.ts";
import type { Report } from "./steps.ts";
import type { Workloads } from "./workloads.ts";

/** What a volume holds of a run, and where the backup service has it. */
const PARTS = { checkpoints: "/checkpoints", logs: "/logs", gguf: "/models/gguf" } as const;

export const movedSchema = z.object({
  taken: z.array(z.string()),
  step: z.number().nullable(),
  verified_manifests: z.number(),
});
export type Moved = z.output<typeof movedSchema>;

/** One end of a move: the containers of a stack, and that of its backup service. */
export interface End {
  readonly workloads: Pick<Workloads, "run" | "archive" | "unpack">;
  readonly container: string;
}

/**
 * Takes a run's last good checkpoints, its logs and exported files from one stack into another. What is sent is what a
 * new snapshot gives back, so nothing half-written is; it streams through this machine and is verified by its manifests
 * where it arrives, before it takes the place of an older state of the same run.
 * @throws UserError where something is missing or has changed on the way; the other stack is untouched then.
 */
export async function moveRun(from: End, to: End, run: string, force: boolean, report: Report): Promise<Moved> {
  const name = `.move-${randomBytes(6).toString("hex")}`;
  const outgoing = `/backup/${name}`;
  try {
    report("taking a snapshot");
    const { snapshot_id } = await askBackup(from.workloads, from.container, ["now"], takenSchema);
    const only = ["--snapshot", snapshot_id, "--run", run, "--to", outgoing];
    const { restored } = await askBackup(from.workloads, from.container, ["restore", ...only], restoredSchema);
    for (const [part, folder] of Object.entries(PARTS)) {
      if (!restored.some((path) => path.startsWith(`${outgoing}/${part}/`))) continue;
      report(`sending ${part}`);
      await make(to, `${folder}/${name}`);
      await to.workloads.unpack(
        to.container,
        `${folder}/${name}`,
        await from.workloads.archive(from.container, `${outgoing}/${part}`),
      );
    }
    report("verifying");
    const args = ["take", "--staged", name, "--run", run, ...(force ? ["--force"] : [])];
    return await askBackup(to.workloads, to.container, args, movedSchema);
  } finally {
    await from.workloads.run(from.container, ["rm", "-rf", outgoing]);
    await to.workloads.run(to.container, ["rm", "-rf", ...Object.values(PARTS).map((folder) => `${folder}/${name}`)]);
  }
}

async function make({ workloads, container }: End, folder: string): Promise<void> {
  const { exitCode, stderr } = await workloads.run(container, ["mkdir", folder]);
  if (exitCode !== 0) throw new Error(`mkdir ${folder}: ${stderr}`);
}
