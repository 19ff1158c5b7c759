import { execFile } from "node:child_process";
import { join } from "node:path";
import { z } from "zod";
import { PROJECT_DIR } from "../project.ts";

/** What `tunestack-train estimate` says, as far as a preview tells it. Sizes in bytes, times in seconds. */
const estimateSchema = z.object({
  schema: z.literal(1),
  device: z.string(),
  device_memory_bytes: z.number(),
  memory_bytes: z.number(),
  verdict: z.enum(["fits", "tight", "too large"]),
  seconds: z.number().nullable(),
  time_source: z.string().nullable(),
});
export type Estimate = z.output<typeof estimateSchema>;

/** An estimate, or why there is none, in words. */
export type Estimated = Estimate | { readonly reason: string };

/** Estimates one run by the arguments of `tunestack-train estimate`. */
export type Estimator = (args: readonly string[]) => Promise<Estimated>;

/** The oldest Python that the training package takes; see its pyproject.toml. */
const PYTHON = "Python 3.11 or later";
const TIME_LIMIT_MS = 30_000;
/** The exit code for settings that are wrong. */
const SETTINGS_CODE = 2;

/** The training package's own estimate, from its sources: it needs no package beside Python's standard library. */
export const estimateHere: Estimator = async (args) => {
  const { code, stdout, stderr } = await python(["-m", "tunestack_train", "estimate", "--json", ...args]);
  if (code === 0) return estimateSchema.parse(JSON.parse(stdout));
  return { reason: code === SETTINGS_CODE ? problemOf(stderr) : `not estimated: needs ${PYTHON} on this machine` };
};

/** What the package says of the first problem, in a line: `error: REASON`, or the setting, the value and the reason. */
function problemOf(stderr: string): string {
  const [first = "", what = "", why = ""] = stderr.split("\n").map((line) => line.trim());
  const reason = /error: (?:--\S+ \S+: )?(.+)$/.exec(first)?.[1];
  return reason === undefined ? `would be refused: ${what} ${why}` : `not estimated: ${reason}`;
}

async function python(args: readonly string[]): Promise<{ code: number | string; stdout: string; stderr: string }> {
  const { PATH, HOME, HF_HOME } = process.env;
  // Not this person's TUNESTACK_SET_…: they are nothing to whoever runs it.
  const env = { PATH, HOME, HF_HOME, PYTHONPATH: join(PROJECT_DIR, "images", "qlora", "src"), PYTHONSAFEPATH: "1" };
  const options = { cwd: PROJECT_DIR, env: { ...env, PYTHONDONTWRITEBYTECODE: "1" }, timeout: TIME_LIMIT_MS };
  return await new Promise((resolve) => {
    execFile("python3", args, options, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : (error.code ?? 1), stdout, stderr }),
    );
  });
}
