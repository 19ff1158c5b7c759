import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Measure, measure, median } from "../../../scripts/lib/bench.ts";
import { PROJECT_DIR } from "../../../scripts/lib/project.ts";
import type { Report } from "../../../scripts/lib/steps.ts";
import { run, seconds } from "./clone.ts";
import { makeEmptyProgram } from "./empty-program.ts";

const ROUNDS = 3;

/** A sweep as a person submits it, against an `up` for each of its runs: of the least that an `up` can be, of nothing. */
export async function measureSweep(runs: number, report: Report): Promise<readonly Measure[]> {
  const folder = mkdtempSync(join(tmpdir(), "tunestack-sweep-"));
  const empty = makeEmptyProgram();
  try {
    const submits: number[] = [];
    const ups: number[] = [];
    await pulumi(["stack", "init", "bench"], empty);
    for (let round = 0; round < ROUNDS; round += 1) {
      report(`a sweep of ${runs} runs, ${round + 1} of ${ROUNDS}`);
      submits.push(await submit(runs, folder, `sweep-${round}`));
      ups.push(
        await seconds(() => pulumi(["up", "--yes", "--skip-preview", "--stack", "bench", "--non-interactive"], empty)),
      );
    }
    const submitted = median(submits);
    const each = median(ups);
    return [
      measure(`submitting a sweep of ${runs} runs`, submitted, "s"),
      measure("one pulumi up of an empty program", each, "s"),
      measure(`${runs} such ups / the sweep`, (runs * each) / submitted, "×", ">= 10"),
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
    rmSync(empty, { recursive: true, force: true });
  }
}

async function pulumi(args: readonly string[], cwd: string): Promise<string> {
  return await run("node", [join(PROJECT_DIR, "scripts", "pulumi", "pulumi.mjs"), ...args], cwd);
}

/** Pushes the sweep to a queue of its own. @returns seconds. */
async function submit(runs: number, folder: string, name: string): Promise<number> {
  const remote = join(folder, `${name}.git`);
  const clone = join(folder, name);
  mkdirSync(clone);
  await run("git", ["init", "--quiet", "--bare", remote], folder);
  await run("git", ["init", "--quiet"], clone);
  const person = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid"];
  await run("git", [...person, "commit", "--quiet", "--allow-empty", "--message", "begin"], clone);
  await run("git", ["push", "--quiet", remote, "HEAD:refs/heads/main"], clone);
  const seeds = Array.from({ length: runs }, (_, seed) => seed).join(",");
  const what = ["submit", "sweep", "--preset", "rehearsal", "--matrix", `seed=${seeds}`];
  const where = ["--remote", remote, "--directory", clone];
  return await seconds(() =>
    run("node", [join(PROJECT_DIR, "scripts", "run.mjs"), "experiment", ...what, ...where, "--json"], PROJECT_DIR),
  );
}
