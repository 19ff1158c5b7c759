import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Published, publish, type Queue } from "./branch.ts";
import { RESULTS_FOLDER } from "./format.ts";
import { drawChart, type SweepPoint, sweepChart } from "./plot.ts";
import { type Job, numericMetrics, type QueueState } from "./state.ts";

/** What became of the clone's own branch of the queue's name. */
export type LocalBranch =
  | { readonly kind: "none" }
  | { readonly kind: "same" }
  | { readonly kind: "forwarded" }
  | { readonly kind: "merged"; readonly published: Published }
  /** It is checked out and has changes that are not committed. */
  | { readonly kind: "dirty" };

/**
 * Brings a local branch of the queue's name together with the server's: what was committed here is merged by experiment and
 * pushed, what came from there is taken.
 */
export async function mergeLocalBranch(queue: Queue, tip: string | undefined): Promise<LocalBranch> {
  const { git, branch } = queue;
  const local = await git.maybe(["rev-parse", "--verify", "--quiet", `refs/heads/${branch}^{commit}`]);
  if (local === undefined) return { kind: "none" };
  if (local === tip) return { kind: "same" };
  const checkedOut = (await git.maybe(["symbolic-ref", "--quiet", "HEAD"])) === `refs/heads/${branch}`;
  const changes = await git.text(["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"]);
  if (checkedOut && changes !== "") return { kind: "dirty" };
  const behind = tip !== undefined && (await git.attempt(["merge-base", "--is-ancestor", local, tip])).exitCode === 0;
  const published = behind
    ? undefined
    : await publish(queue, { message: "Merge experiments", code: local, edit: (entries) => entries });
  const target = published?.commit ?? tip ?? local;
  // The working tree follows where the branch is the one that is checked out; it has no changes of its own.
  if (checkedOut) await git.text(["merge", "--quiet", "--ff-only", target], { what: `bring ${branch} up to date` });
  else await git.text(["update-ref", `refs/heads/${branch}`, target, local]);
  return published === undefined ? { kind: "forwarded" } : { kind: "merged", published };
}

/** Copies results and logs from the branch to a folder; returns how many files were new or had changed. */
export async function saveResults({ git }: Queue, { commit }: QueueState, folder: string): Promise<number> {
  if (commit === undefined) return 0;
  const listed = await git.text(["ls-tree", "-r", "-z", commit, `${RESULTS_FOLDER}/`]);
  const wanted = listed.split("\0").flatMap((line) => {
    const [, blob, path] = /^\d+ blob ([0-9a-f]+)\t(.+)$/s.exec(line) ?? [];
    // A tree can name anything: what leads out of the folder is left where it is.
    if (blob === undefined || path === undefined || path.split("/").includes("..")) return [];
    return [{ blob, target: join(folder, path.slice(RESULTS_FOLDER.length + 1)) }];
  });
  const contents = git.blobs(wanted.map(({ blob }) => blob));
  let saved = 0;
  for (const { blob, target } of wanted) {
    const content = contents.get(blob);
    if (content === undefined || (existsSync(target) && readFileSync(target).equals(content))) continue;
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, content);
    saved += 1;
  }
  return saved;
}

/** Draws each sweep with something to compare as PNG; returns the files. */
export async function drawSweeps(jobs: readonly Job[], folder: string): Promise<readonly string[]> {
  const sweeps = new Map<string, SweepPoint[]>();
  for (const { name, sweep, status, parameters, results } of jobs) {
    if (sweep === undefined || status !== "completed") continue;
    const points = sweeps.get(sweep) ?? [];
    points.push({ experiment: name, parameters, metrics: numericMetrics(results) });
    sweeps.set(sweep, points);
  }
  const files: string[] = [];
  for (const [sweep, points] of sweeps) {
    const chart = sweepChart(points, sweep);
    if (chart === undefined) continue;
    mkdirSync(folder, { recursive: true });
    const file = join(folder, `${sweep}.png`);
    writeFileSync(file, await drawChart(chart));
    files.push(file);
  }
  return files;
}
