import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

/** What set-up found out about this machine and wrote to `.tunestack/machine.json`; never committed. */
export const machineFactsSchema = z.object({
  schema: z.literal(1),
  /** When set-up looked, ISO 8601. */
  checkedAt: z.string(),
  /** `cuda` where containers can use an NVIDIA GPU. */
  accelerator: z.enum(["cuda", "cpu"]),
  /** A base image made without a registry; absent where a registry can be reached. */
  baseImage: z.string().optional(),
  /** Registry hosts that did not answer, so that what must come from them is left out by name. */
  unreachableRegistries: z.array(z.string()),
});

export type MachineFacts = z.output<typeof machineFactsSchema>;

/** The folder of everything that belongs to one person and machine. */
export const PERSONAL_FOLDER = ".tunestack";

export function machineFile(projectDir: string): string {
  return join(projectDir, PERSONAL_FOLDER, "machine.json");
}

/** Reads what set-up found; without it, looks for the NVIDIA driver's device and assumes an open network. */
export function readMachineFacts(projectDir: string): MachineFacts {
  const file = machineFile(projectDir);
  const found = existsSync(file) ? parseFacts(readFileSync(file, "utf8")) : undefined;
  if (found !== undefined) return found;
  return {
    schema: 1,
    checkedAt: new Date(0).toISOString(),
    accelerator: existsSync("/dev/nvidiactl") ? "cuda" : "cpu",
    unreachableRegistries: [],
  };
}

/** A file that was cut off, or is another version's, is as good as none: set-up writes it anew. */
function parseFacts(text: string): MachineFacts | undefined {
  try {
    return machineFactsSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
